"""Looks through coloured seals and marks at the lines that they cover in part."""

import numpy as np
from PIL import Image, ImageChops

from runners.reader.lines.quads import Quad

_SATURATED = 60
"""Difference of the largest and the smallest of red, green and blue of what has a colour."""
_REDUCTION = 4
_SHARES = (0.002, 0.25)
"""Least and largest share of the page that coloured marks cover; more is coloured paper."""
_LIGHT = 160
"""Brightness of the paper that a mark is seen on."""


def without_marks(image: Image.Image) -> Image.Image | None:
    """The page in grey, with its coloured marks made pale; None if it has none."""
    # Averaged, the coloured edges of letters drawn for a screen are grey again.
    small = np.asarray(image.reduce(_REDUCTION)).astype(np.int16)
    share = float((np.ptp(small, axis=2) > _SATURATED).mean())
    if not _SHARES[0] <= share <= _SHARES[1] or np.median(small) < _LIGHT:
        return None
    red, green, blue = image.split()
    return ImageChops.lighter(ImageChops.lighter(red, green), blue)


def beside(lines: list[Quad], cleaned: list[Quad]) -> list[Quad]:
    """The lines of the page as it is where there is none of the page without its marks."""
    return [line for line in lines if not any(_meets(line, q) or _meets(q, line) for q in cleaned)]


def _meets(line: Quad, other: Quad) -> bool:
    """Whether the middle of a line lies in the other line."""
    x, y = line.mean(axis=0)
    (left, top), (right, bottom) = other.min(axis=0), other.max(axis=0)
    return bool(left <= x <= right and top <= y <= bottom)
