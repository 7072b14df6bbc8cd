import struct
import zlib

import pytest
from PIL import Image

from common.images import INCOMPLETE, decode_with_warnings
from common.imaging.png_chunks import without_texts
from tests.support.pages import encode

PAGE = encode(Image.linear_gradient("L").resize((48, 32)))
AFTER_HEADER = 33
LONG = b" " * (2 * 2**20)
XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><r tiff:Orientation="6"/></x:xmpmeta>'


def chunk(kind: bytes, content: bytes) -> bytes:
    checksum = struct.pack(">I", zlib.crc32(kind + content))
    return struct.pack(">I", len(content)) + kind + content + checksum


@pytest.mark.parametrize(
    "extra",
    [
        chunk(b"tEXt", b"Comment\0" + LONG),
        chunk(b"zTXt", b"Comment\0\0" + zlib.compress(LONG)),
        chunk(b"iTXt", b"Comment\0\0\0\0\0" + LONG),
        chunk(b"iTXt", b"Comment\0\1\0\0\0" + zlib.compress(LONG)),
        chunk(b"iCCP", b"profile\0\0" + zlib.compress(LONG)),
    ],
    ids=["tEXt", "zTXt", "iTXt", "compressed iTXt", "iCCP"],
)
@pytest.mark.parametrize("place", [AFTER_HEADER, len(PAGE) - 12], ids=["first", "last"])
def test_long_texts_and_profiles_are_left_out(extra, place):
    data = PAGE[:place] + extra + PAGE[place:]
    assert without_texts(data) == PAGE
    assert decode_with_warnings(data)[1] == []


def test_a_text_that_holds_the_orientation_stays():
    text = chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + XMP)
    data = PAGE[:AFTER_HEADER] + text + PAGE[AFTER_HEADER:]
    assert decode_with_warnings(data)[0].size == (32, 48)


@pytest.mark.parametrize("cut", range(AFTER_HEADER, len(PAGE), 7))
def test_a_cut_file_stays_as_it_is(cut):
    assert without_texts(PAGE[:cut]) == PAGE[:cut]


def test_a_cut_file_with_texts_is_read():
    text = chunk(b"zTXt", b"Comment\0\0" + zlib.compress(LONG))
    data = PAGE[:AFTER_HEADER] + text + PAGE[AFTER_HEADER:-30]
    assert decode_with_warnings(data)[1] == [INCOMPLETE]
