"""Defines the quadrilaterals that lines of text are found in, and cuts them out of a page."""

import math

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

Quad = NDArray[np.float32]
"""Four corners (x, y) of a line: top left, top right, bottom right, bottom left as it is read."""
Pixels = NDArray[np.uint8]
"""Height, width, and red, green and blue."""

_LONGEST = 600
"""Heights of a line; no longer line is cut out."""


def size_of(quad: Quad) -> tuple[float, float]:
    """The width and the height of a quadrilateral, each the larger of two sides."""
    sides = np.linalg.norm(quad - np.roll(quad, -1, axis=0), axis=1)
    return float(max(sides[0], sides[2])), float(max(sides[1], sides[3]))


def direction_of(quad: Quad) -> float:
    """Degrees clockwise from rightwards in which a quadrilateral is read."""
    along = quad[1] + quad[2] - quad[0] - quad[3]
    return math.degrees(math.atan2(along[1], along[0]))


def read_towards(quad: Quad, degrees: float) -> Quad:
    """The quadrilateral with its corners in such an order that it is read nearly to `degrees`."""
    turns = round((degrees - direction_of(quad)) / 90)
    return np.roll(quad, -turns, axis=0)


def wider(quad: NDArray[np.floating], share: float) -> Quad:
    """The quadrilateral, longer at both ends by a share of its shorter side."""
    corners = quad.astype(np.float32)
    width, height = size_of(corners)
    ends = (0, 1, 2, 3) if width >= height else (1, 2, 3, 0)
    first, second, third, fourth = ends
    along = corners[second] + corners[third] - corners[first] - corners[fourth]
    step = along / max(float(np.linalg.norm(along)), 1.0) * share * min(width, height)
    longer = corners.copy()
    longer[[first, fourth]] -= step
    longer[[second, third]] += step
    return longer


def cut_out(image: Image.Image, quad: Quad, height: int) -> Pixels:
    """The quadrilateral of an RGB or grey image, straightened and `height` pixels high."""
    width, own_height = size_of(quad)
    left, top = np.maximum(np.floor(quad.min(axis=0)) - 2, 0).astype(int).tolist()
    right, bottom = (np.ceil(quad.max(axis=0)) + 2).astype(int).tolist()
    right, bottom = min(right, image.width), min(bottom, image.height)
    # What is much larger is averaged first, which the perspective transform does not do.
    factor = min(1.0, 1.5 * height / max(own_height, 1))
    size = max(1, round((right - left) * factor)), max(1, round((bottom - top) * factor))
    region = image.resize(size, Image.Resampling.BILINEAR, (left, top, right, bottom))
    region = region.convert("RGB")
    corners = (quad - (left, top)) * (size[0] / (right - left), size[1] / (bottom - top))
    out = min(_LONGEST * height, max(8, round(width * height / max(own_height, 1))))
    target = np.array([(0, 0), (out, 0), (out, height), (0, height)], np.float32)
    matrix = cv2.getPerspectiveTransform(corners.astype(np.float32), target)
    cut = cv2.warpPerspective(
        np.asarray(region),
        matrix,
        (out, height),
        flags=cv2.INTER_CUBIC,
        borderMode=cv2.BORDER_REPLICATE,
    )
    return cut.astype(np.uint8, copy=False)
