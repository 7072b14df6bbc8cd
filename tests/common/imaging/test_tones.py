import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageChops

from common.images import decode
from tests.support.pages import encode


def png_of_16_bits(pixels: np.ndarray) -> bytes:
    """A PNG in colours of 16 bits, which Pillow cannot write."""
    height, width, bands = pixels.shape
    header = struct.pack(">IIBBBBB", width, height, 16, {3: 2, 4: 6}[bands], 0, 0, 0)
    rows = zlib.compress(b"".join(b"\0" + row.tobytes() for row in pixels))
    file = b"\x89PNG\r\n\x1a\n"
    for kind, content in ((b"IHDR", header), (b"IDAT", rows), (b"IEND", b"")):
        checksum = zlib.crc32(kind + content)
        file += struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)
    return file


def tiff_of_16_bits(pixels: np.ndarray) -> bytes:
    """A TIFF in colours of 16 bits, which Pillow cannot write either."""
    height, width, bands = pixels.shape
    data = pixels.astype("<u2").tobytes()
    place = 8 + 2 + 9 * 12 + 4
    tags = (
        (256, 4, 1, width),
        (257, 4, 1, height),
        (258, 3, bands, place),
        (259, 3, 1, 1),
        (262, 3, 1, 2),
        (273, 4, 1, place + 2 * bands),
        (277, 3, 1, bands),
        (278, 4, 1, height),
        (279, 4, 1, len(data)),
    )
    entries = b"".join(struct.pack("<HHII", *tag) for tag in tags)
    depths = struct.pack("<H", 16) * bands
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4) + depths + data


@pytest.mark.parametrize("most", [1, 255, 1023, 4095, 65535])
@pytest.mark.parametrize(
    ("mode", "format"), [("I;16", "PNG"), ("I;16", "TIFF"), ("I", "TIFF"), ("F", "TIFF")]
)
def test_grey_is_read_by_the_values_that_it_has(mode, format, most):
    image = Image.new(mode, (4, 4), most)
    image.putpixel((0, 0), 0)
    read = decode(encode(image, format))
    assert [read.getpixel((0, 0)), read.getpixel((1, 1))] == [(0,) * 3, (255,) * 3]


@pytest.mark.parametrize("most", [255, 300, 1023, 4095, 65535])
@pytest.mark.parametrize("make", [png_of_16_bits, tiff_of_16_bits])
def test_colours_are_read_by_the_values_that_they_have(make, most):
    pixels = np.full((4, 4, 3), most, ">u2")
    pixels[0, 0] = (0, most // 2, most)
    read = decode(make(pixels))
    assert read.getpixel((3, 3)) == pytest.approx((255,) * 3, abs=1)
    assert read.getpixel((0, 0)) == pytest.approx((0, 127, 255), abs=2)


@pytest.mark.parametrize("most", [255, 65535])
def test_colours_keep_their_transparency(most):
    pixels = np.zeros((4, 4, 4), ">u2")
    pixels[0, 0] = (most, 0, 0, 65535)
    read = decode(png_of_16_bits(pixels))
    assert [read.getpixel((0, 0)), read.getpixel((2, 2))] == [(255, 0, 0), (255, 255, 255)]


@pytest.mark.parametrize(
    ("has_marker", "is_inverted"), [(True, True), (False, True), (False, False)]
)
def test_a_cmyk_jpeg_has_light_paper_with_and_without_the_marker_of_adobe(has_marker, is_inverted):
    page = Image.new("RGB", (64, 64), "white")
    page.paste("black", (0, 0, 32, 32))
    inks = page.convert("CMYK")
    # Pillow inverts the values that it writes, and writes the marker.
    data = encode(inks if is_inverted else ImageChops.invert(inks), "JPEG")
    if not has_marker:
        start = data.index(b"\xff\xee")
        data = data[:start] + data[start + 16 :]
    read = decode(data)
    assert max(read.getpixel((8, 8))) < 30
    assert min(read.getpixel((56, 56))) > 225
