"""Finds circles on a page, and unrolls what lies along them."""

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from runners.reader.lines.quads import Quad

_MAX_PIXELS = 12_000_000
"""Pixels of a page whose circles are looked for: unrolled, one is nearly as large as the page."""
_SIDE = 560
"""Pixels of the longer side of the picture that circles are looked for in."""
_SMALLEST = 0.03
"""Radius of a circle, as a share of that side, at least."""
_EDGE = 200
"""How sharp the edge of a circle is, as OpenCV measures it."""
_ROUND = 0.7
"""Share of the circle that such edges make, at least."""
_MOST = 3
"""Circles of a page that are looked at, the largest first."""
_APART = 0.5
"""How far the middle of another circle is from that of a larger one, in its radii."""
_NEAR = (0.9, 1.1)
"""From where to where its exact place is looked for, in its radii."""
_ANGLES = 360
"""Number of angles at which it is looked for."""
_CONTRAST = 40
"""Difference, of 255, of a circle from what is beside it."""
_FITS = 4
"""How often the circle is laid on its ink."""
_OUTER, _INNER = 1.04, 0.3
"""From where to where a circle is unrolled, in its radii."""
_TEXT = 0.8
"""Where the text mostly is: there, unrolled pixels are as large as those of the page."""
_STEPS = 9
"""Points that an arc is drawn with."""


@dataclass(frozen=True)
class Circle:
    """A circle on a page, in pixels. Of several around the same place it is the largest."""

    x: float
    y: float
    radius: float

    @property
    def middle(self) -> NDArray[np.float64]:
        return np.array((self.x, self.y))

    @property
    def corners(self) -> Quad:
        """The corners of the square around it."""
        sides = np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)])
        return (self.middle + self.radius * sides).astype(np.float32)


def circles_of(image: Image.Image) -> list[Circle]:
    """The drawn circles of an RGB or grey page, the largest first; none of a large page."""
    if image.width * image.height > _MAX_PIXELS:
        return []
    factor = min(1.0, _SIDE / max(image.size))
    size = max(1, round(image.width * factor)), max(1, round(image.height * factor))
    small = image.resize(size, Image.Resampling.BOX, reducing_gap=1.0).convert("L")
    found = cv2.HoughCircles(
        np.asarray(small),
        cv2.HOUGH_GRADIENT_ALT,
        dp=1.5,
        minDist=10,
        param1=_EDGE,
        param2=_ROUND,
        minRadius=round(_SMALLEST * _SIDE),
        maxRadius=max(size) // 2,
    )
    circles: list[Circle] = []
    for x, y, radius in sorted([] if found is None else found[0].tolist(), key=lambda c: -c[2]):
        circle = Circle(x / factor, y / factor, radius / factor)
        if all(math.dist(circle.middle, c.middle) > _APART * c.radius for c in circles):
            circles.append(circle)
    return [_exact(image, circle) for circle in circles[:_MOST]]


def _exact(image: Image.Image, circle: Circle) -> Circle:
    """The circle that lies best on the ink that is near it: that found may be some pixels off."""
    polar = _polar(image, circle, _NEAR[1], _ANGLES).astype(np.float32)
    grey = polar.reshape(*polar.shape[:2], -1).min(axis=2)[:, round(_NEAR[0] * circle.radius) :]
    ink = np.abs(grey - np.median(grey, axis=1, keepdims=True))
    off = ink.argmax(axis=1) - (1 - _NEAR[0]) * circle.radius
    angles = np.linspace(0, math.tau, _ANGLES, endpoint=False)
    ways = np.stack((np.cos(angles), np.sin(angles), np.ones(_ANGLES)), axis=1)
    on_it = ink.max(axis=1) > _CONTRAST
    if on_it.sum() < _ANGLES / 4:
        return circle
    for _ in range(_FITS):  # each time without letters and what crosses the circle
        (x, y, wider), *_ = np.linalg.lstsq(ways[on_it], off[on_it], rcond=None)
        apart = np.abs(off - ways @ (x, y, wider))
        on_it &= apart <= 2 * np.median(apart[on_it]) + 1
    return Circle(circle.x + float(x), circle.y + float(y), circle.radius + float(wider))


class Unrolled:
    """What lies along a circle, as a strip that runs clockwise, its outer edge on top."""

    def __init__(self, page: Image.Image, circle: Circle, start: float) -> None:
        """start: where the strip begins, in turns clockwise from what is right of the middle."""
        self.circle = circle
        self._start = start
        length = round(math.tau * _TEXT * circle.radius)
        polar = _polar(page, circle, _OUTER, length)
        strip = np.rot90(polar)[: round((_OUTER - _INNER) * circle.radius)]
        strip = np.roll(strip, -round(start * length), axis=1)
        self.image = Image.fromarray(np.ascontiguousarray(strip))

    def outline(self, corners: Quad) -> Quad:
        """The outline on the page of a quadrilateral of the strip: points along its two arcs."""
        steps = np.linspace(0, 1, _STEPS)[:, None]
        upper = corners[0] + steps * (corners[1] - corners[0])
        lower = corners[3] + steps * (corners[2] - corners[3])
        points = np.concatenate([upper, lower])
        angles = math.tau * (points[:, 0] / self.image.width + self._start)
        away = _OUTER * self.circle.radius - points[:, 1]
        ways = np.stack((np.cos(angles), np.sin(angles)), axis=1)
        return (self.circle.middle + ways * away[:, None]).astype(np.float32)

    def places(self, points: Quad) -> Quad:
        """Points of the page, as those of the strip."""
        away = points - self.circle.middle
        turns = np.arctan2(away[:, 1], away[:, 0]) / math.tau - self._start
        rows = _OUTER * self.circle.radius - np.hypot(away[:, 0], away[:, 1])
        return np.stack((turns % 1 * self.image.width, rows), axis=1).astype(np.float32)


def _polar(page: Image.Image, circle: Circle, reach: float, angles: int) -> NDArray[np.uint8]:
    """What lies along a circle, to `reach` radii: a row per angle, a column per distance."""
    around = math.ceil(reach * circle.radius) + 1
    left, top = round(circle.x) - around, round(circle.y) - around
    right, bottom = left + 2 * around, top + 2 * around
    inner = max(0, left), max(0, top), min(page.width, right), min(page.height, bottom)
    beside = inner[1] - top, bottom - inner[3], inner[0] - left, right - inner[2]
    pixels = np.asarray(page.crop(inner))
    polar = cv2.warpPolar(
        cv2.copyMakeBorder(pixels, *beside, cv2.BORDER_REPLICATE),
        (round(reach * circle.radius), angles),
        (circle.x - left, circle.y - top),
        reach * circle.radius,
        cv2.INTER_LINEAR,
    )
    return polar.astype(np.uint8, copy=False)
