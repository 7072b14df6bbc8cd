import io
import struct
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from common.failures import ErrorCode, Refusal
from common.images import (
    FORMATS,
    INCOMPLETE,
    SEVERAL_FRAMES,
    check_size,
    decode,
    decode_with_warnings,
    is_blank,
)
from tests.support.files.heic import heic, heic_of_two_images, turned_heic

GREY = 90
WRITTEN = tuple(format for format in FORMATS if format != "HEIF")
"""The formats that Pillow can write."""


def encode(image: Image.Image, format: str, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def page(width: int = 48, height: int = 32) -> Image.Image:
    """White with its upper left quarter black, so that every turn of it looks different."""
    image = Image.new("RGB", (width, height), "white")
    image.paste("black", (0, 0, width // 2, height // 2))
    return image


def noise() -> Image.Image:
    return Image.frombytes("RGB", (64, 64), np.random.default_rng(0).bytes(64 * 64 * 3))


def black_corner(image: Image.Image) -> tuple[str, str]:
    """Where the black quarter of `page` is."""
    dark = np.asarray(image.convert("L")) < 128
    rows, columns = np.nonzero(dark)
    height, width = dark.shape
    return (
        "top" if rows.mean() < height / 2 else "bottom",
        "left" if columns.mean() < width / 2 else "right",
    )


def read(data: bytes) -> Image.Image:
    check_size(data, 10**6)
    return decode(data)


def refusal(data: bytes) -> tuple[ErrorCode, str]:
    with pytest.raises(Refusal) as caught:
        read(data)
    return caught.value.code, caught.value.failure.detail


BROKEN = (ErrorCode.BAD_IMAGE, "The image is broken or truncated: it could not be decoded.")
NO_IMAGE = (
    ErrorCode.BAD_IMAGE,
    "The file is not a readable image or PDF: send JPEG, PNG, BMP, TIFF, WebP, GIF, HEIC, AVIF, "
    "JPEG 2000 or PDF.",
)


@pytest.mark.parametrize(
    ("mode", "format"),
    [
        *[("RGB", format) for format in WRITTEN],
        *[("L", format) for format in WRITTEN if format not in ("WEBP", "AVIF")],
        *[("1", format) for format in ("PNG", "BMP", "TIFF")],
        *[("P", format) for format in ("PNG", "BMP", "TIFF", "GIF")],
        *[("RGBA", format) for format in ("PNG", "BMP", "TIFF", "WEBP", "AVIF", "JPEG2000")],
        *[("LA", format) for format in ("PNG", "TIFF", "JPEG2000")],
        *[("CMYK", format) for format in ("JPEG", "TIFF")],
        ("LAB", "TIFF"),
    ],
)
def test_black_stays_black_and_white_white_in_every_mode_and_format(mode, format):
    image = decode(encode(_in_mode(page(), mode), format))
    assert image.mode == "RGB"
    assert max(image.getpixel((4, 4))) < 30
    assert min(image.getpixel((44, 28))) > 225


def _in_mode(image: Image.Image, mode: str) -> Image.Image:
    if mode != "LAB":
        return image.convert(mode)
    lightness = image.convert("L")
    neutral = Image.new("L", image.size, 128)
    return Image.merge("LAB", (lightness, neutral, neutral))


@pytest.mark.parametrize("format", ["PNG", "TIFF"])
@pytest.mark.parametrize("value", [0, 90, 255])
def test_16_bit_grey_is_scaled_not_clipped(format, value):
    page = Image.new("I;16", (4, 4), value * 257)
    page.putpixel((3, 3), 65535)
    assert decode(encode(page, format)).getpixel((0, 0)) == (value,) * 3


def test_32_bit_grey_keeps_its_16_bit_values():
    page = Image.new("I", (4, 4), GREY * 257)
    page.putpixel((3, 3), 65535)
    image = decode(encode(page, "TIFF"))
    assert image.getpixel((0, 0)) == (GREY,) * 3


def test_a_float_tiff_is_spread_from_black_to_white():
    image = Image.fromarray(np.array([[-3.0, 0.5], [2.25, 4.0]], np.float32))
    grey = np.asarray(decode(encode(image, "TIFF")).convert("L"))
    assert grey.tolist() == [[0, 127], [191, 255]]


@pytest.mark.parametrize(
    "image",
    [
        Image.new("RGBA", (4, 4), (0, 0, 0, 0)),
        Image.new("LA", (4, 4), (0, 0)),
    ],
)
def test_what_is_transparent_is_white(image):
    assert decode(encode(image, "PNG")).getpixel((0, 0)) == (255, 255, 255)


def test_what_is_half_transparent_is_half_white():
    image = Image.new("RGBA", (4, 4), (0, 0, 0, 128))
    assert decode(encode(image, "WEBP", lossless=True)).getpixel((0, 0)) == (127, 127, 127)


@pytest.mark.parametrize(
    ("mode", "key", "other"),
    [("1", 1, 0), ("L", 70, GREY), ("P", 1, 0), ("RGB", (1, 2, 3), (0, 0, 0)), ("I;16", 9999, 0)],
)
def test_one_colour_that_is_transparent_is_white(mode, key, other):
    image = Image.new(mode, (4, 4), key)
    if mode == "P":
        image.putpalette([0, 0, 0, 10, 20, 30])
    image.putpixel((0, 0), other)
    read = decode(encode(image, "PNG", transparency=key))
    assert read.getpixel((3, 3)) == (255, 255, 255)
    assert read.getpixel((0, 0)) == ((GREY,) * 3 if mode == "L" else (0, 0, 0))


# https://www.cipa.jp/std/documents/e/DC-008-Translation-2019-E.pdf, 4.6.4 A, Orientation: where
# the first row and the first column of the file belong.
CORNERS = {
    1: ("top", "left"),
    2: ("top", "right"),
    3: ("bottom", "right"),
    4: ("bottom", "left"),
    5: ("top", "left"),
    6: ("top", "right"),
    7: ("bottom", "right"),
    8: ("bottom", "left"),
}


@pytest.mark.parametrize("format", ["JPEG", "PNG", "TIFF", "WEBP", "AVIF"])
@pytest.mark.parametrize("orientation", CORNERS)
def test_the_image_is_turned_as_its_exif_says(format, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = decode(encode(page(), format, exif=exif))
    assert image.size == ((48, 32) if orientation < 5 else (32, 48))
    assert black_corner(image) == CORNERS[orientation]


def tiff_header(*tags: tuple[int, int, int, int]) -> bytes:
    """An EXIF block of (tag, type, count, value)."""
    entries = b"".join(struct.pack("<HHII", *tag) for tag in tags)
    return b"Exif\0\0II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4)


@pytest.mark.parametrize(
    "exif",
    [
        b"Exif\0\0",
        b"Exif\0\0junk that is no EXIF",
        tiff_header((0x0112, 3, 1, 6))[:20],
        tiff_header((0x0112, 2, 2, 0x36)),
        tiff_header((0x0112, 3, 1, 99)),
        tiff_header((0x8769, 4, 1, 10**9), (0x8825, 4, 1, 8)),
    ],
)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_broken_exif_is_no_reason_to_refuse_a_page(exif):
    image = decode(encode(page(), "JPEG", exif=exif))
    assert (image.size, black_corner(image)) == ((48, 32), ("top", "left"))


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("odd", [(0x0128, 2, 4, 0x41424344), (0x0100, 9, 1, 0xFFFFFFFF)])
def test_an_odd_tag_beside_it_does_not_hide_the_orientation(odd):
    image = decode(encode(page(), "JPEG", exif=tiff_header((0x0112, 3, 1, 6), odd)))
    assert (image.size, black_corner(image)) == ((32, 48), ("top", "right"))


def test_a_phone_picture_of_several_images_is_read_as_its_first():
    data = encode(page(), "MPO", save_all=True, append_images=[Image.new("RGB", (5, 5))])
    assert decode(data).size == (48, 32)


def test_the_first_page_of_a_tiff_is_read():
    data = encode(page(), "TIFF", save_all=True, append_images=[Image.new("RGB", (5, 5))])
    assert decode(data).size == (48, 32)


@pytest.mark.parametrize("format", ["ICO", "PPM", "EPS", "PDF", "TGA", "ICNS"])
def test_other_formats_are_refused(format):
    size = (32, 32)
    assert refusal(encode(Image.new("RGB", size), format)) == NO_IMAGE


@pytest.mark.parametrize("data", [b"not an image", b"\x89PNG\r\n\x1a\n", b"<svg/>", bytes(100)])
def test_what_is_no_image_is_refused(data):
    assert refusal(data) == NO_IMAGE


def test_an_empty_file_is_refused():
    assert refusal(b"") == (ErrorCode.BAD_IMAGE, "The file is empty.")


@pytest.mark.parametrize("format", ["WEBP", "AVIF"])
def test_a_cut_image_of_a_format_that_is_whole_or_nothing_is_refused(format):
    data = encode(noise(), format)
    assert refusal(data[: len(data) * 2 // 3])[0] == ErrorCode.BAD_IMAGE


def test_what_is_there_of_a_cut_image_is_read_with_a_warning():
    image, warnings = decode_with_warnings(encode(noise(), "PNG")[:-4000])
    assert (image.size, warnings) == ((64, 64), [INCOMPLETE])


def test_a_cut_image_is_upright():
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encode(page(), "JPEG", exif=exif)
    assert black_corner(decode(data[:-2])) == ("top", "right")


@pytest.mark.parametrize("format", ["JPEG", "PNG", "BMP", "TIFF", "GIF"])
def test_an_image_of_which_nothing_can_be_decoded_is_refused(format):
    data = encode(noise(), format)
    with Image.open(io.BytesIO(data)) as image:
        offset = image.tile[0].offset
    kept = data.index(b"\xff\xda") + 14 if format == "JPEG" else offset
    assert refusal(data[:kept]) in (BROKEN, NO_IMAGE)


@pytest.mark.parametrize("format", ["GIF", "WEBP", "PNG", "AVIF"])
def test_the_first_of_several_frames_is_read_and_said_to_be(format):
    second = Image.new("RGB", (48, 32), "white")
    data = encode(page(), format, save_all=True, append_images=[second])
    image, warnings = decode_with_warnings(data)
    assert (black_corner(image), warnings) == (("top", "left"), [SEVERAL_FRAMES])
    assert decode_with_warnings(encode(page(), format))[1] == []


def test_heic_is_read():
    for data, warnings in ((heic(), []), (heic_of_two_images(), [SEVERAL_FRAMES])):
        image, found = decode_with_warnings(data)
        assert (image.size, black_corner(image), found) == ((48, 32), ("top", "left"), warnings)
    assert refusal(heic()[:-40])[0] == ErrorCode.BAD_IMAGE
    with pytest.raises(Refusal, match="48 x 32"):
        check_size(heic(), 1000)


def test_exif_does_not_turn_heic_which_says_elsewhere_how_it_is_turned():
    assert decode(turned_heic()).size == (48, 32)


XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><r tiff:Orientation="6"/></x:xmpmeta>'


def test_an_orientation_that_a_tiff_names_twice_is_obeyed_once():
    image = decode(encode(page(), "TIFF", tiffinfo={0x0112: 6, 700: XMP}))
    assert (image.size, black_corner(image)) == ((32, 48), ("top", "right"))


def test_a_tiff_whose_tags_disagree_with_its_old_jpeg_is_read():
    jpeg = encode(page(), "JPEG")
    start = 8 + 2 + 11 * 12 + 4
    tags = {256: 48, 257: 32, 258: 8, 259: 6, 262: 1, 273: start, 277: 1, 278: 32, 279: len(jpeg)}
    tags |= {513: start, 514: len(jpeg)}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    data = b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4) + jpeg
    assert black_corner(decode(data)) == ("top", "left")


@pytest.mark.parametrize("format", WRITTEN)
def test_the_bound_on_pixels_is_exact(format):
    data = encode(page(40, 25), format)
    check_size(data, 1000)
    with pytest.raises(Refusal) as caught:
        check_size(data, 999)
    assert caught.value.code == ErrorCode.TOO_LARGE
    assert caught.value.failure.detail == "The image has 40 x 25 pixels; at most 999 are read."


@pytest.mark.parametrize("format", WRITTEN)
def test_a_decompression_bomb_is_refused_by_its_header_alone(format, monkeypatch):
    bomb = encode(
        Image.new("L" if format in ("JPEG", "GIF", "JPEG2000") else "1", (4000, 4000)), format
    )
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", lambda image: pytest.fail("it was decoded"))
    assert len(bomb) < 10 * 2**20
    with pytest.raises(Refusal, match="4000 x 4000"):
        check_size(bomb, 10**6)


@pytest.mark.filterwarnings("ignore::UserWarning")
@given(st.data())
@settings(max_examples=200, deadline=None)
def test_a_damaged_image_is_read_or_refused(data):
    whole = bytearray(WHOLE[data.draw(st.sampled_from(tuple(WHOLE)))])
    for _ in range(data.draw(st.integers(1, 8))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    read_or_refused(bytes(whole[: data.draw(st.integers(0, len(whole)))]))


@given(st.binary(max_size=200), st.sampled_from([b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"]))
@settings(deadline=None)
def test_random_bytes_are_read_or_refused(data, start):
    read_or_refused(start + data)


def read_or_refused(data: bytes) -> None:
    with suppress(Refusal):
        assert read(data).mode == "RGB"


EXIF = tiff_header((0x0112, 3, 1, 6))
WHOLE = {
    format: encode(page(), format, **({} if format in ("BMP", "GIF") else {"exif": EXIF}))
    for format in WRITTEN
} | {"HEIF": heic()}


def test_a_page_is_blank_where_nothing_on_it_can_be_told_from_its_paper():
    paper = Image.new("RGB", (200, 100), (250, 248, 240))
    assert is_blank(paper)
    assert is_blank(decode(encode(paper, "JPEG")))
    assert not is_blank(page())
    paper.putpixel((20, 30), (200, 200, 200))
    assert not is_blank(paper)


def test_an_image_without_colours_stays_grey_where_that_is_asked_for():
    data = encode(page().convert("L"), "PNG")
    grey, _ = decode_with_warnings(data, keep_grey=True)
    assert grey.mode == "L"
    assert grey.convert("RGB").tobytes() == decode(data).tobytes()
    assert decode_with_warnings(encode(page(), "PNG"), keep_grey=True)[0].mode == "RGB"
