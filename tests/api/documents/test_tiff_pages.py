import io
import struct

import pytest
from PIL import Image

from api.documents.tiff_pages import TiffPages
from common.images import decode
from tests.support.files.documents import tiff, wide_pages
from tests.support.pages import encode


def sizes(data: bytes) -> list[tuple[int, int]]:
    pages = TiffPages(data)
    return [decode(pages.page(number + 1)).size for number in range(len(pages))]


def test_each_page_is_a_tiff_of_one_page():
    data = wide_pages(3, 4, 5)
    assert sizes(data) == [(3, 1), (4, 1), (5, 1)]
    assert all(len(TiffPages(TiffPages(data).page(number))) == 1 for number in (1, 2, 3))


@pytest.mark.parametrize("options", [{"big_tiff": True}, {"compression": "raw"}])
def test_other_kinds_of_tiff_have_pages_too(options):
    file = io.BytesIO()
    pages = [Image.new("L", (width, 2)) for width in (7, 8)]
    pages[0].save(file, "TIFF", save_all=True, append_images=pages[1:], **options)
    assert sizes(file.getvalue()) == [(7, 2), (8, 2)]


def test_a_tiff_with_the_high_bytes_first_has_pages_too():
    tags = ((256, 6), (257, 1), (258, 8), (259, 1), (262, 1), (273, 200), (278, 1), (279, 6))
    entries = b"".join(struct.pack(">HHII", tag, 4, 1, value) for tag, value in tags)
    tag_list = struct.pack(">H", len(tags)) + entries
    first = b"MM\0*" + struct.pack(">I", 8) + tag_list + struct.pack(">I", 300)
    assert sizes(first.ljust(300, b"\0") + tag_list + bytes(4)) == [(6, 1), (6, 1)]


@pytest.mark.parametrize(
    ("data", "count"),
    [
        (b"", 0),
        (encode(Image.new("L", (2, 2))), 0),
        (b"II*\0", 0),
        (b"II*\0" + struct.pack("<I", 10**9), 1),
        (b"II*\0" + struct.pack("<IHI", 8, 0, 8), 1),  # the list is its own next one
        (tiff(Image.new("L", (2, 2))), 1),
    ],
)
def test_files_that_have_no_second_page(data, count):
    assert len(TiffPages(data)) == count


def test_a_page_that_the_file_ends_before_counts():
    pages = TiffPages(b"II*\0" + struct.pack("<IHI", 8, 0, 999))
    assert len(pages) == 2
    assert pages.page(2)
