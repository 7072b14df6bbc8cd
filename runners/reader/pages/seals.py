"""Finds the lines that a coloured seal or mark covers in part."""

import numpy as np
from PIL import Image, ImageChops

from runners.reader.lines.quads import Quad, size_of

_SATURATED = 60
"""Difference of the largest and the smallest of red, green and blue of what has a colour."""
_SHARES = (0.002, 0.25)
"""Least and largest share of the page that coloured marks cover; more is coloured paper."""
_LIGHT = 160
"""Brightness of the paper that a mark is seen on."""
_LONGER = 1.15
"""How many times longer a line is than without the mark, to be taken for it."""


def without_marks(image: Image.Image) -> Image.Image | None:
    """The page with its coloured marks made pale; None if it has none."""
    small = np.asarray(image.resize((256, 256), Image.Resampling.NEAREST)).astype(np.int16)
    share = float((np.ptp(small, axis=2) > _SATURATED).mean())
    if not _SHARES[0] <= share <= _SHARES[1] or np.median(small) < _LIGHT:
        return None
    red, green, blue = image.split()
    return ImageChops.lighter(ImageChops.lighter(red, green), blue).convert("RGB")


def hidden_lines(lines: list[Quad], cleaned: list[Quad]) -> tuple[list[Quad], list[Quad]]:
    """The lines of the page as it is, and those that are found only without the marks.

    lines: those of the page as it is; cleaned: those of the page without its marks.
    """
    hidden: list[Quad] = []
    kept = lines
    for quad in cleaned:
        covered = [line for line in kept if _lies_in(line, quad)]
        longest = max((max(size_of(line)) for line in covered), default=0.0)
        if max(size_of(quad)) > _LONGER * longest:
            hidden.append(quad)
            kept = [line for line in kept if not any(line is other for other in covered)]
    return kept, hidden


def _lies_in(line: Quad, quad: Quad) -> bool:
    """Whether the middle of a line lies in the other line, and it is not much higher."""
    x, y = line.mean(axis=0)
    (left, top), (right, bottom) = quad.min(axis=0), quad.max(axis=0)
    return bool(left <= x <= right and top <= y <= bottom)
