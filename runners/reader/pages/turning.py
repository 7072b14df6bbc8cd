"""Turns places on a page as it came into boxes on the page once it stands upright."""

import math
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from common.messages import Box, Rotation
from runners.reader.lines.quads import Quad, size_of
from runners.reader.lines.words import LineWord
from runners.reader.pages.upright import skew_of

_STRAIGHT = 0.05
"""Degrees; less is no skew."""


class Turning:
    """The turn, by quarters, that makes a page upright."""

    def __init__(self, size: tuple[int, int], direction: float) -> None:
        """direction: degrees clockwise from rightwards in which the page as it came is read."""
        skew = skew_of(direction)
        degrees: Literal[0, 90, 180, 270] = -round(direction - skew) % 360  # type: ignore[assignment]
        self._came = size
        self.rotation = Rotation(
            degrees=degrees, skew=round(skew, 1) if abs(skew) >= _STRAIGHT else 0.0
        )
        self.size = size if degrees % 180 == 0 else size[::-1]
        """Width and height of the upright page."""

    def box_of(self, corners: NDArray[np.float32]) -> Box:
        """The box of points of the page as it came."""
        width, height = self._came
        xs, ys = corners.T
        degrees = self.rotation.degrees
        if degrees == 90:
            xs, ys = height - ys, xs
        elif degrees == 180:
            xs, ys = width - xs, height - ys
        elif degrees == 270:
            xs, ys = ys, width - xs
        left, top = max(0, math.floor(xs.min())), max(0, math.floor(ys.min()))
        right, bottom = math.ceil(xs.max()), math.ceil(ys.max())
        return left, top, min(self.size[0], right), min(self.size[1], bottom)


def corners_of(quad: Quad, word: LineWord) -> NDArray[np.float32]:
    """The corners of a word in a line."""
    width, height = size_of(quad)
    start, end = (min(1.0, max(0.0, at * height / width)) for at in (word.start, word.end))
    along = quad[[1, 1, 2, 2]] - quad[[0, 0, 3, 3]]
    return quad[[0, 0, 3, 3]] + along * np.array([[start], [end], [end], [start]], np.float32)
