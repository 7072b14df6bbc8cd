"""Finds the lines of text on a page with PP-OCR's detector."""

from collections.abc import Callable
from itertools import product

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from runners.reader.lines.quads import Quad, size_of, wider
from runners.reader.lines.rapid import Inference, load_detector

_CANVASES = (
    *{
        size
        for width, height in ((960, 960), (1152, 832), (1344, 704), (1792, 544), (640, 640))
        for size in ((width, height), (height, width))
    },
    *((1344, 352), (960, 256)),  # for a line or two, which seldom lie on their side
)
"""Width, height of what the detector is given: each size costs memory for good."""
_TILE = 960
"""Side of the tiles that a page which fits into no canvas is divided into."""
_MARGIN = 16
"""Pixels of paper around the page: a line that touches the edge is not found."""
_OVERLAP = 64
"""Pixels around a tile that are computed and left out: a cut line looks like another."""
_LARGEST_SCALE = 1.5
_SMALLEST_SCALE = 0.25
"""Printed text cannot be told from a texture at less."""
_SMALL_LINE = 13
"""Height of a line, pixels of the detector: where lines are smaller, it looks again."""
_MAX_PIXELS = 16_000_000
"""Pixels that the detector looks at of one page; a larger page is shrunk for it."""
_LONG = 4
"""A page that is so many times longer than wide is not looked at as a whole."""
_BESIDE = 0.1
"""Paper that is added to the ends of a line, in its heights: the outline may cut letters."""
_CERTAIN = 255
"""What a pixel is given that is surely part of a line."""
_WIDER = np.ones((2, 2), np.uint8)
"""What the outline widens the lines by, as PP-OCR does."""
_BLANK = 16
"""Contrast, of 255, under which a tile is not looked at."""


class LineDetector:
    """PP-OCR's detector. Used by one thread at a time."""

    def __init__(self) -> None:
        detector = load_detector()
        self._infer = Inference(detector.session)
        self._outline = detector.postprocess_op
        self._outline.max_candidates = 100_000
        # Likelihoods are kept as bytes: those of a large page would take four times the memory.
        self._outline.thresh *= _CERTAIN
        self._outline.box_thresh *= _CERTAIN
        # The largest first: the memory of a smaller canvas is not used again for a larger one.
        for width, height in sorted(_CANVASES, key=lambda size: -size[0] * size[1]):
            self._infer(np.zeros((1, 3, height, width), np.float32))

    def find(self, image: Image.Image, check: Callable[[], None]) -> list[Quad]:
        """The lines of an RGB or grey image, in no order.

        check: called before each part of the page; what it raises ends the search.
        """
        paper = paper_of(image)
        finest = min(1.0, (_MAX_PIXELS / (image.width * image.height)) ** 0.5)
        scale = _first_scale(image.size)
        quads = self._find_at(image, scale, paper, check)
        while scale < finest and _are_small(quads, scale):
            scale = min(finest, 2 * scale)
            quads = self._find_at(image, scale, paper, check)
        return quads

    def _find_at(
        self, image: Image.Image, scale: float, paper: tuple[int, ...], check: Callable[[], None]
    ) -> list[Quad]:
        width = max(1, round(image.width * scale))
        height = max(1, round(image.height * scale))
        likely = np.zeros((height + 2 * _MARGIN, width + 2 * _MARGIN), np.uint8)
        whole = _canvas(likely.shape[1], likely.shape[0])
        step_x = likely.shape[1] if whole else _TILE - 2 * _OVERLAP
        step_y = likely.shape[0] if whole else _TILE - 2 * _OVERLAP
        overlap = 0 if whole else _OVERLAP
        for top, left in product(
            range(0, likely.shape[0], step_y), range(0, likely.shape[1], step_x)
        ):
            bottom, right = min(top + step_y, likely.shape[0]), min(left + step_x, likely.shape[1])
            size = whole or _canvas(right - left + 2 * overlap, bottom - top + 2 * overlap)
            assert size is not None
            check()
            corner = left - overlap - _MARGIN, top - overlap - _MARGIN
            part = self._likelihood(_tile(image, (width, height), corner, size, paper))
            if part is not None:
                likely[top:bottom, left:right] = part[
                    overlap : overlap + bottom - top, overlap : overlap + right - left
                ]
        # As the outline does when it is called, in half the memory.
        mask = (likely > self._outline.thresh).view(np.uint8)
        mask = cv2.dilate(mask, _WIDER).astype(np.uint8, copy=False)
        boxes, scores = self._outline.boxes_from_bitmap(likely, mask, *likely.shape[::-1])
        boxes, _ = self._outline.filter_det_res(boxes, scores, *likely.shape)
        ratio = np.array((image.width / width, image.height / height))
        return [wider((box - _MARGIN) * ratio, _BESIDE) for box in boxes]

    def _likelihood(self, tile: Image.Image) -> NDArray[np.uint8] | None:
        """How likely each pixel is part of a line, 0 to `_CERTAIN`; None for a blank tile."""
        pixels = np.asarray(tile)[:, :, ::-1]
        if np.ptp(pixels) < _BLANK:
            return None
        blob = (pixels.transpose(2, 0, 1)[None] / np.float32(127.5)) - 1
        found = self._infer(np.ascontiguousarray(blob, np.float32))[0, 0]
        return np.rint(found * _CERTAIN).astype(np.uint8)


def _first_scale(size: tuple[int, int]) -> float:
    """The scale at which the page is looked at as a whole, a long one in parts."""
    width, height = size
    if max(size) > _LONG * min(size):
        return min(1.0, (_TILE - 2 * _OVERLAP - 2 * _MARGIN) / min(size))
    whole = max(
        min((across - 2 * _MARGIN) / width, (down - 2 * _MARGIN) / height)
        for across, down in _CANVASES
    )
    return min(_LARGEST_SCALE, max(_SMALLEST_SCALE, whole))


def _canvas(width: int, height: int) -> tuple[int, int] | None:
    """The smallest canvas that holds so many pixels; None if none does."""
    fitting = [(w * h, (w, h)) for w, h in _CANVASES if w >= width and h >= height]
    return min(fitting)[1] if fitting else None


def _tile(
    image: Image.Image,
    scaled: tuple[int, int],
    corner: tuple[int, int],
    size: tuple[int, int],
    paper: tuple[int, ...],
) -> Image.Image:
    """A part of the page as large as `size`, which begins at `corner` of the scaled page."""
    left, top = max(corner[0], 0), max(corner[1], 0)
    right, bottom = min(corner[0] + size[0], scaled[0]), min(corner[1] + size[1], scaled[1])
    tile = Image.new("RGB", size, paper)
    if right > left and bottom > top:
        x, y = image.width / scaled[0], image.height / scaled[1]
        box = (left * x, top * y, right * x, bottom * y)
        part = image.resize((right - left, bottom - top), Image.Resampling.BILINEAR, box)
        tile.paste(part, (left - corner[0], top - corner[1]))
    return tile


def paper_of(image: Image.Image) -> tuple[int, ...]:
    """The colour that most of the page has."""
    small = image.resize((64, 64), Image.Resampling.BILINEAR, reducing_gap=1.0).convert("RGB")
    return tuple(np.median(np.asarray(small).reshape(-1, 3), axis=0).astype(int).tolist())


def _are_small(quads: list[Quad], scale: float) -> bool:
    """Whether the lines are so small that others may have been missed."""
    if not quads:
        return True
    heights = [min(size_of(quad)) * scale for quad in quads]
    return float(np.quantile(heights, 0.25)) < _SMALL_LINE
