"""Finds out when a model sees a page smaller than its text needs."""

from collections.abc import Callable

import cv2
import numpy as np
from PIL import Image

_LEGIBLE = 8
"""Pixels. Lower letters are misread; Tesseract's documentation names the same limit for itself."""
_SPECK, _LEAST_HEIGHT = 3, 5
"""Pixels. What is lower than the first is dust. Letters are at least as high as the second; most of
the noise of a photograph is lower."""
_SHARE_HIGH = 0.5
"""Share of the marks other than dust that are as high as letters where the page is one of text."""
_MOST_PIXELS = 4_000_000
"""Of a larger page, bands of so many pixels together are measured."""
_BAND = 400
"""Rows."""
_LARGEST_SHARE = 0.1
"""Share of the page's height; marks that are higher are rules, pictures and headlines."""
_FEWEST_LETTERS = 20
_NARROWEST, _WIDEST = 0.1, 3.0
"""Width of a mark by its height; wider ones are rules, or words whose letters touch."""
_ALIKE = 0.5, 1.8
"""Heights of letters by their median: small letters, capitals, and those that reach below."""
_SHARE_ALIKE = 0.6
"""Share of the marks that are as high as letters where the page is one of text."""


def shrink_warning(
    size: tuple[int, int], seen_size: tuple[int, int], letters: Callable[[], float]
) -> str | None:
    """Returns a sentence if the letters of an image become too small by shrinking it.

    seen_size: width and height in which the model sees it. letters: their height in the image.
    """
    (across, down), (width, height) = size, seen_size
    scale = min(width / across, height / down)
    if scale >= 1 or not 0 < (seen := letters() * scale) < _LEGIBLE:
        return None
    return (
        f"The model saw the image of {across} x {down} pixels as {width} x {height}, its letters "
        f"about {seen:.0f} pixels high, which may be too small to be read: send parts of the page."
    )


def letter_height(image: Image.Image) -> float:
    """Returns the median height of the letters of a page, pixels; 0 if there seems to be no text.

    Letters are connected marks of the rarer of two shades (Otsu's threshold), of similar heights.
    """
    grey = _bands(np.asarray(image.convert("L")))
    _, light = cv2.threshold(grey, 0, 255, cv2.THRESH_BINARY + cv2.THRESH_OTSU)
    marks = light if np.count_nonzero(light) * 2 < light.size else cv2.bitwise_not(light)
    _, _, stats, _ = cv2.connectedComponentsWithStats(marks)
    widths, heights = stats[1:, cv2.CC_STAT_WIDTH], stats[1:, cv2.CC_STAT_HEIGHT]
    shapes = widths / heights
    is_high = heights >= _LEAST_HEIGHT
    if np.count_nonzero(is_high) < _SHARE_HIGH * np.count_nonzero(heights >= _SPECK):
        return 0.0
    heights = heights[
        is_high
        & (heights <= max(_LEAST_HEIGHT, image.height * _LARGEST_SHARE))
        & (shapes >= _NARROWEST)
        & (shapes <= _WIDEST)
    ]
    if len(heights) < _FEWEST_LETTERS:
        return 0.0
    median = float(np.median(heights))
    low, high = (median * factor for factor in _ALIKE)
    alike = np.count_nonzero((heights >= low) & (heights <= high))
    return median if alike >= _SHARE_ALIKE * len(heights) else 0.0


def _bands(grey: np.ndarray) -> np.ndarray:
    """Bands of rows, evenly spread over a page that is large; else the page."""
    step = -(-grey.size // _MOST_PIXELS)
    bands = [grey[top : top + _BAND] for top in range(0, len(grey), _BAND * step)]
    return np.concatenate(bands) if step > 1 else grey
