"""Measures a page's skew, and turns the page straight."""

import math
from dataclasses import dataclass

import numpy as np
from PIL import Image

from common.messages import Box

_MAX_SKEW = 10.0
"""Degrees; a page that leans further is rather on its side."""
_WORTH_TURNING = 0.15
"""Degrees; less skew costs no accuracy, and resampling blurs."""


@dataclass(frozen=True)
class Frame:
    """An upright page, deskewed and resized, and how its points lie on the page as it was."""

    image: Image.Image
    """Grey."""
    page_size: tuple[int, int]
    """Width, height of the upright page."""
    to_page: tuple[float, float, float, float, float, float]
    """a, b, c, d, e, f: the frame's (x, y) lies at (ax + by + c, dx + ey + f) of the page."""

    def box_on_page(self, box: Box) -> Box:
        """The bounding box, clipped to the page, of what `box` encloses in the frame."""
        a, b, c, d, e, f = self.to_page
        x0, y0, x1, y1 = box
        corners = [(x, y) for x in (x0, x1) for y in (y0, y1)]
        xs = [a * x + b * y + c for x, y in corners]
        ys = [d * x + e * y + f for x, y in corners]
        width, height = self.page_size
        left, top = max(0, math.floor(min(xs))), max(0, math.floor(min(ys)))
        return left, top, min(width, math.ceil(max(xs))), min(height, math.ceil(max(ys)))


def deskew(page: Image.Image, skew: float, scale: float) -> Frame:
    """The grey page turned back by its skew (degrees, see `skew_of`) and resized, in one go."""
    if skew == 0 and scale == 1:
        return Frame(page, page.size, (1, 0, 0, 0, 1, 0))
    if scale < 1:  # an affine transform does not average what it shrinks
        size = max(1, round(page.width * scale)), max(1, round(page.height * scale))
        shrunk = deskew(page.resize(size, Image.Resampling.BILINEAR), skew, 1.0)
        x, y = page.width / size[0], page.height / size[1]
        a, b, c, d, e, f = shrunk.to_page
        return Frame(shrunk.image, page.size, (a * x, b * x, c * x, d * y, e * y, f * y))
    cos, sin = math.cos(math.radians(skew)), math.sin(math.radians(skew))
    width = math.ceil(scale * (page.width * cos + page.height * abs(sin)))
    height = math.ceil(scale * (page.height * cos + page.width * abs(sin)))
    a, b, d, e = cos / scale, -sin / scale, sin / scale, cos / scale
    c = page.width / 2 - (a * width + b * height) / 2
    f = page.height / 2 - (d * width + e * height) / 2
    to_page = (a, b, c, d, e, f)
    image = page.transform(
        (width, height),
        Image.Transform.AFFINE,
        to_page,
        Image.Resampling.BICUBIC,
        fillcolor=255,
    )
    return Frame(image, page.size, to_page)


def skew_of(page: Image.Image) -> float:
    """Degrees by which the lines of a grey page sink towards their right end; 0 if none do.

    Postl's projection profile: sheared by the right angle, the lower edges of the ink fall into
    the fewest rows, so that the sum of the squared row counts is largest.
    """
    reduced = page.reduce(max(1, max(page.size) // 1000))
    if min(reduced.size) < 3:
        return 0.0
    edges = np.diff(np.asarray(reduced, np.int16), axis=0)
    contrast = edges.max()
    if contrast < 16:
        return 0.0
    ys, xs = np.nonzero(edges > contrast / 3)

    def sharpness(degrees: float) -> float:
        rows = np.rint(ys - xs * math.tan(math.radians(degrees))).astype(np.int64)
        return float((np.bincount(rows - rows.min()).astype(np.float64) ** 2).sum())

    coarse = max(np.arange(-_MAX_SKEW, _MAX_SKEW + 0.1, 0.5), key=sharpness)
    fine = max(np.arange(coarse - 0.4, coarse + 0.5, 0.1), key=sharpness)
    turned = abs(fine) >= _WORTH_TURNING and sharpness(fine) > 1.05 * sharpness(0)
    return round(float(fine), 1) if turned else 0.0
