"""The sizes in which models that take images as Qwen's do see them. Imports no torch."""

import math

from PIL import Image

from common.failures import ErrorCode, Refusal

IMAGES_SHARE = 0.8
"""Share of the tokens which a model takes that may be images'; the rest is for texts and answer."""
MAX_RATIO = 200
"""How many times as long as the other one side of an image may be, for Qwen's own code."""


def padded(image: Image.Image, min_side: int) -> Image.Image:
    """Adds white to an image, so that each side is at least `min_side` pixels long.

    Without that, the short side of a thin strip would be stretched, or rounded to nothing.
    """
    size = padded_size(*image.size, min_side)
    if size == image.size:
        return image
    page = Image.new("RGB", size, "white")
    page.paste(image)
    return page


def padded_size(width: int, height: int, min_side: int) -> tuple[int, int]:
    """Returns width and height of a padded image.

    Raises `Refusal` (BAD_IMAGE) if one side is still more than 200 times as long as the other,
    which the models do not take.
    """
    sides = max(width, min_side), max(height, min_side)
    if max(sides) > MAX_RATIO * min(sides):
        raise Refusal(
            ErrorCode.BAD_IMAGE,
            f"The image is too long and thin ({width} x {height} pixels): "
            f"one side may be at most {MAX_RATIO} times the other.",
        )
    return sides


def seen_size(
    width: int, height: int, side: int, least_pixels: int, most_pixels: int
) -> tuple[int, int]:
    """Returns the width and height in which a model sees an image: multiples of `side`.

    It is `smart_resize` of Qwen's own package, which cannot be imported without PyTorch.

    width, height: of the image, padded. side: of the square of pixels that becomes a token.
    """
    across, down = (max(side, round(length / side) * side) for length in (width, height))
    if across * down > most_pixels:
        shrink = math.sqrt(width * height / most_pixels)
        across, down = (math.floor(length / shrink / side) * side for length in (width, height))
    elif across * down < least_pixels:
        grow = math.sqrt(least_pixels / (width * height))
        across, down = (math.ceil(length * grow / side) * side for length in (width, height))
    return max(side, across), max(side, down)
