"""Makes of a large image one that can be read in little memory, in a process of its own.

Some decoders take twenty times the memory of the pixels that they yield. In a process that reads
pages, that would come on top of the models.
"""

import io
from collections.abc import Callable
from dataclasses import dataclass

from PIL import Image

from common.failures import Refusal
from common.images import decode_with_warnings, decoding_bytes, read_size
from runners.process_pool.protocol import Check

_LARGE = 160_000_000
"""Bytes; an image whose decoding may take more is large."""
_MAX_COLOURED = 20_000_000
"""Pixels of an image in colours that is read; those of larger ones are averaged."""
_HALVED = 1.5
"""How many times more pixels an image has that is halved before, where its decoder can."""
_STRIP = 256
"""Rows that are shrunk at a time."""


@dataclass(frozen=True)
class ManageableImage:
    """An image that was large."""

    data: bytes
    """It is encoded anew, perhaps with fewer pixels."""
    size: tuple[int, int]
    """Width, height that it had, upright."""
    warnings: tuple[str, ...]


def is_large(data: bytes) -> bool:
    """Whether the image has to be made manageable first. False if it is none."""
    try:
        return decoding_bytes(data) > _LARGE
    except Refusal:
        return False


def load() -> Callable[[bytes, Check], ManageableImage]:
    """The function that makes an image manageable. It raises `Refusal` with BAD_IMAGE."""
    return _manageable


def _manageable(data: bytes, check: Check) -> ManageableImage:
    width, height = read_size(data)
    halve = width * height > _HALVED * _MAX_COLOURED
    image, warnings = decode_with_warnings(data, keep_grey=True, may_halve=halve)
    check()
    is_turned = (width > height) != (image.width > image.height)
    size = (height, width) if is_turned else (width, height)
    file = io.BytesIO()
    _smaller(image).save(file, "PNG", compress_level=1)
    return ManageableImage(file.getvalue(), size, tuple(warnings))


def _smaller(image: Image.Image) -> Image.Image:
    factor = (_MAX_COLOURED / (image.width * image.height)) ** 0.5
    if image.mode == "L" or factor >= 1:
        return image
    size = max(1, int(image.width * factor)), max(1, int(image.height * factor))
    smaller = Image.new("RGB", size)
    for top in range(0, size[1], _STRIP):  # at once, it would take twice the memory
        bottom = min(size[1], top + _STRIP)
        box = (0, top * image.height / size[1], image.width, bottom * image.height / size[1])
        strip = image.resize((size[0], bottom - top), Image.Resampling.BILINEAR, box)
        smaller.paste(strip, (0, top))
    return smaller
