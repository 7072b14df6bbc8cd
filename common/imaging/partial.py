"""Loads what can still be decoded of a picture that is broken, or lacks its end.

Pillow's own switch for this holds for the whole process, so for the other threads' pictures too.
"""

from collections.abc import Callable

from PIL import Image, ImageChops, ImageFile

_JPEG_END = b"\xff\xd9"
_JPEG_GREY = (128, 128, 128)
"""What libjpeg puts where blocks are missing."""
_JPEG_BLOCK = 16
"""The longest side of the blocks of a JPEG, in pixels."""

Opener = Callable[[bytes], ImageFile.ImageFile]


class NothingDecoded(Exception):
    """Raised if no part of the picture can be decoded."""


def load(data: bytes, open_image: Opener) -> tuple[ImageFile.ImageFile, bool]:
    """The loaded picture, and whether it is whole.

    Of a picture that is not, the missing rows have one colour: see `whiten_missing_rows`.

    Raises what `open_image` raises, and anything else if the picture cannot be loaded at all.
    """
    image = open_image(data)
    try:
        image.load()
    except MemoryError:
        raise
    except Exception:  # Pillow's decoders raise nearly anything on broken data
        if image.format in ("JPEG", "MPO"):
            # Told that the data end there, libjpeg makes the best of what came before, of a
            # progressive picture too.
            image = open_image(data + _JPEG_END)
            image.load()
        else:
            image.tile = []  # what was decoded is kept, and counts as all there is
            image.load()
        return image, False
    return image, True


def is_interlaced(image: ImageFile.ImageFile) -> bool:
    """Whether a picture that is not loaded yet is stored as every other row, then those between."""
    if image.format == "GIF":
        args = image.tile[0].args if image.tile else None
        return isinstance(args, tuple) and bool(args[1])
    return bool(image.info.get("interlace"))


def repeat_rows(page: Image.Image) -> Image.Image:
    """The page of an interlaced picture, with the row above instead of each that is missing."""
    width, height = page.size
    last = page.getpixel((width - 1, height - 1))
    for top in range(1, height):
        row = page.crop((0, top, width, top + 1))
        if _differing(row, last).getbbox() is None:
            page.paste(page.crop((0, top - 1, width, top)), (0, top))
    return page


def whiten_missing_rows(page: Image.Image) -> Image.Image:
    """The page, with the rows at its end (of a BMP, its start) that were not decoded in white.

    They are known by having one colour, so nothing that could be read is lost with them.

    Raises `NothingDecoded` if the whole page has one colour.
    """
    width, height = page.size
    last = page.getpixel((width - 1, height - 1))
    box = _differing(page, last).getbbox()
    if box is None:
        raise NothingDecoded
    _, _, right, bottom = box
    if last == _JPEG_GREY:
        if max(right, bottom) <= _JPEG_BLOCK:  # the block in which the data end is made up
            raise NothingDecoded
        # In the last row of blocks, those to the right may be missing.
        top = max(0, bottom - _JPEG_BLOCK)
        band = page.crop((0, top, width, bottom))
        decoded = _differing(band, last).point(lambda value: 255 if value else 0)
        page.paste(Image.composite(band, Image.new("RGB", band.size, "white"), decoded), (0, top))
    if bottom < height:
        page.paste("white", (0, bottom, width, height))
    elif box := _differing(page, page.getpixel((0, 0))).getbbox():
        page.paste("white", (0, 0, width, box[1]))
    return page


def _differing(image: Image.Image, colour: object) -> Image.Image:
    """Black where the picture has this colour."""
    plain = Image.new("RGB", image.size, colour)  # type: ignore[arg-type]
    red, green, blue = ImageChops.difference(image, plain).split()
    return ImageChops.lighter(ImageChops.lighter(red, green), blue)
