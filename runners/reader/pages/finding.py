"""Finds the lines of a page, however it lies and whatever covers it."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageFilter

from runners.reader.lines.detection import LineDetector, paper_of
from runners.reader.lines.quads import Quad, size_of
from runners.reader.pages.rules import without_rules
from runners.reader.pages.seals import beside, without_marks
from runners.reader.pages.upright import likely_direction, skew_of

_LEANING = 6.0
"""Degrees; a page that leans further is straightened to find its lines."""
_MAX_PIXELS = 9_000_000
"""Pixels of a page, A4 at 300 dpi, that is cleaned of marks and rules: that takes memory."""
_MAX_STRAIGHTENED = 4_000_000
"""Pixels of a page that is straightened; it grows by this."""
_LINE = 4.0
"""How many times longer than high a line of words is at least."""
_JOIN_DOTS = ImageFilter.GaussianBlur(1.5)
"""What makes letters of the dots of a dot matrix printer."""


@dataclass(frozen=True)
class FoundLine:
    """A line before it is read."""

    quad: Quad
    image: Image.Image
    """The RGB or grey image that it is cut out of."""


class LineFinder:
    """Looks for lines with a detector. Used by one thread at a time."""

    def __init__(self, detector: LineDetector) -> None:
        self._detector = detector

    def find(self, image: Image.Image, check: Callable[[], None]) -> list[FoundLine]:
        """The lines of an RGB or grey page, in no order. check: what it raises ends the search."""
        quads = self._find(image, check)
        small = image.width * image.height <= _MAX_PIXELS
        if small and not _has_line(quads):  # the detector takes letters of dots for words, if any
            joined = image.filter(_JOIN_DOTS)
            through_dots = self._find(joined, check)
            if not quads or _has_line(through_dots):
                image, quads = joined, through_dots
        coloured = image.mode == "RGB"
        cleaned = without_marks(image) if small and coloured and quads else None
        if small and quads:
            image = without_rules(image, quads)
        if cleaned is None:
            return [FoundLine(quad, image) for quad in quads]
        through = self._find(cleaned, check)
        return [FoundLine(quad, cleaned) for quad in through] + [
            FoundLine(quad, image) for quad in beside(quads, through)
        ]

    def _find(self, image: Image.Image, check: Callable[[], None]) -> list[Quad]:
        quads = self._detector.find(image, check)
        skew = skew_of(likely_direction(quads))
        return self._find_straight(image, skew, check) if abs(skew) > _LEANING else quads

    def _find_straight(
        self, image: Image.Image, skew: float, check: Callable[[], None]
    ) -> list[Quad]:
        """The lines of a page that leans: the outlines of leaning lines are too wide."""
        factor = min(1.0, (_MAX_STRAIGHTENED / (image.width * image.height)) ** 0.5)
        size = round(image.width * factor), round(image.height * factor)
        small = image if factor == 1 else image.resize(size, Image.Resampling.BILINEAR)
        paper = paper_of(image)
        fill = paper if small.mode == "RGB" else paper[0]
        straight = small.rotate(skew, Image.Resampling.BILINEAR, expand=True, fillcolor=fill)
        angle = math.radians(skew)
        back = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
        middle, own_middle = np.array(straight.size) / 2, np.array(size) / 2
        del small  # the detector takes memory, too
        return [
            (((quad - middle) @ back.T + own_middle) / factor).astype(np.float32)
            for quad in self._detector.find(straight, check)
        ]


def _has_line(quads: list[Quad]) -> bool:
    """Whether a line has more than a few letters."""
    return any(max(size) > _LINE * min(size) for size in map(size_of, quads))
