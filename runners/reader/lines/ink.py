"""Tells the ink of a line from its paper, whatever their colours."""

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from runners.reader.lines.quads import Pixels

_CONTRAST = 0.35
"""Share of the line's contrast over which a column of pixels has ink."""
_EDGE = 0.15
"""Share of the height above and below that is left out: neighbouring lines reach into it."""


def columns_with_ink(grey: NDArray[Any]) -> NDArray[np.bool_]:
    """Which columns of the pixels of a line have ink."""
    height = grey.shape[0]
    middle = grey[round(_EDGE * height) : round((1 - _EDGE) * height)]
    contrast = middle.max(axis=0).astype(np.float32) - middle.min(axis=0)
    found: NDArray[np.bool_] = contrast > max(_CONTRAST * float(contrast.max()), 1.0)
    return found


def grey_of(line: Pixels) -> NDArray[np.uint8]:
    """The line in grey: as far apart as its colours are, ink dark and paper light."""
    pixels = line.reshape(-1, 3).astype(np.float32)
    centred = pixels - np.array(cv2.mean(line)[:3], np.float32)  # numpy's mean is many times slower
    # The direction in which the colours differ most: that from the ink to the paper.
    _, axes = np.linalg.eigh(centred.T @ centred)
    shade = centred @ axes[:, -1]
    darkest, middle, lightest = np.quantile(shade, (0.01, 0.5, 0.99))
    if middle < (darkest + lightest) / 2:  # most of a line is paper
        shade, darkest, lightest = -shade, -lightest, -darkest
    scaled = (shade - darkest) * (255 / max(float(lightest - darkest), 1.0))
    grey: NDArray[np.uint8] = scaled.clip(0, 255).astype(np.uint8).reshape(line.shape[:2])
    return grey
