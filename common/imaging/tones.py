"""Turns pixels of other ranges and inks than 8 bits of red, green and blue into those."""

from typing import cast

from PIL import Image, ImageChops, ImageFile, ImageStat

_WIDE_GREY = {"I;16", "I;16B", "I;16L", "I;16N", "I", "F"}
_COARSE_HIGH_BYTE = 63
"""Below it, the high bytes of a picture of 16 bits tell its tones apart too coarsely."""
_OTHER_BYTE = {"16B": "16L", "16L": "16B", "16N": "16B"}  # native order has the low byte first
"""Pillow keeps one byte of each 16 bits of colour; read in this order, it keeps the other one."""


def is_wide_grey(image: Image.Image) -> bool:
    """Whether the picture is grey, of more than 8 bits."""
    return image.mode in _WIDE_GREY


def narrow_grey(image: Image.Image) -> Image.Image:
    """Grey of 8 bits, from the lowest value that the picture has, or 0, to its highest.

    The type of its numbers does not tell what is white: there are scans of 8, 10 or 12 bits in 16.
    """
    low, high = cast(tuple[float, float], image.getextrema())
    if image.mode != "F":
        low = min(0, low)
    scale = 255 / (high - low) if high > low else 0
    transparent = image.info.get("transparency")
    image = image.convert("I" if image.mode != "F" else "F")
    image = image.point(lambda value: (value - low) * scale).convert("L")
    if transparent is not None:
        image.info["transparency"] = max(0, min(255, int((transparent - low) * scale)))
    return image


def colour_depth_order(image: ImageFile.ImageFile) -> str | None:
    """The order of bytes, such as "16B", of a colour picture of 16 bits that is not loaded yet."""
    order = _raw_mode(image).rpartition(";")[2]
    return order if image.mode in ("RGB", "RGBA") and order in _OTHER_BYTE else None


def narrow_colours(high: Image.Image, again: ImageFile.ImageFile, order: str) -> Image.Image:
    """Colours of 8 bits, from 0 to the highest value that the picture has.

    high: the loaded picture, of which Pillow kept the high bytes. again: the same, not loaded yet.
    """
    key = high.info.get("transparency")
    if isinstance(key, tuple):
        high.info["transparency"] = tuple(value >> 8 for value in key)
    colours = high.convert("RGB") if high.mode == "RGBA" else high
    brightest = max(top for _, top in cast(tuple[tuple[int, int], ...], colours.getextrema()))
    if brightest > _COARSE_HIGH_BYTE:
        return high
    swapped = _raw_mode(again).replace(order, _OTHER_BYTE[order])
    again.tile = [
        tile._replace(args=(swapped, *tile.args[1:]) if isinstance(tile.args, tuple) else swapped)
        for tile in again.tile
    ]
    again.load()
    low = again.convert("RGB") if again.mode == "RGBA" else again
    # The low byte of the brightest value is not known by itself: take it as the largest.
    most = brightest * 256 + _brightest_low_byte(colours, low, brightest)
    if most == 0:
        return high
    narrow = ImageChops.add(
        colours.point(lambda value: min(255, round(value * 256 * 255 / most))),
        low.point(lambda value: min(255, round(value * 255 / most))),
    )
    if high.mode == "RGBA":
        narrow.putalpha(high.getchannel("A"))
    narrow.info = high.info
    return narrow


def _brightest_low_byte(high: Image.Image, low: Image.Image, brightest: int) -> int:
    """The largest low byte of a value that has the largest high byte."""
    found = 0
    for high_band, low_band in zip(high.split(), low.split(), strict=True):
        mask = high_band.point(lambda value: 255 if value == brightest else 0)
        histogram = low_band.histogram(mask)
        found = max([found, *(value for value, count in enumerate(histogram) if count)])
    return found


def cmyk_to_rgb(image: Image.Image, is_bare_jpeg: bool) -> Image.Image:
    """The picture as RGB.

    is_bare_jpeg: it is a JPEG without Adobe's marker. Pillow takes every JPEG's values for
    inverted, as Adobe writes them. Some without the marker are, some are not: the lighter look is
    taken, as paper is light.
    """
    looks = [image.convert("RGB")]
    if is_bare_jpeg:
        looks.append(ImageChops.invert(image).convert("RGB"))
    return max(looks, key=lambda look: sum(ImageStat.Stat(look).mean))


def _raw_mode(image: ImageFile.ImageFile) -> str:
    """How the decoder lays out the pixels: "RGB;16B"; empty if it does not say so."""
    args = image.tile[0].args if image.tile else ""
    first = args[0] if isinstance(args, tuple) and args else args
    return first if isinstance(first, str) else ""
