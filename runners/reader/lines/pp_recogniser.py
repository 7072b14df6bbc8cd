"""Reads lines with a recogniser of PP-OCR."""

from bisect import bisect_left
from pathlib import Path

import cv2
import numpy as np

from runners.reader.lines.ink import columns_with_ink
from runners.reader.lines.quads import Pixels
from runners.reader.lines.rapid import Inference, load_recogniser
from runners.reader.lines.spaces import with_passed_over
from runners.reader.lines.words import Character

HEIGHT = 48
"""Pixels; the recognisers know lines of this height."""
_WIDTHS = tuple(HEIGHT * times for times in (2, 4, 6, 8, 10, 13, 16, 20, 25, 32, 40))
"""Widths that lines are padded to: each one costs memory for good."""
MAX_WIDTH = _WIDTHS[-1]
"""Longer lines are read in parts."""
_PART = 25 * HEIGHT
"""Width of such a part: of a wider one, full of letters, the end is now and then not read."""
_GAP = HEIGHT // 6
"""Width of a gap between words: those between letters are narrower."""


class PPRecogniser:
    """A recogniser of PP-OCR. Used by one thread at a time."""

    def __init__(self, model: Path | None = None) -> None:
        """Load the model of a file; by default the one of Latin and Chinese characters."""
        recogniser = load_recogniser(model)
        self._infer = Inference(recogniser.session)
        self._alphabet: list[str] = recogniser.postprocess_op.character
        # The largest first: the memory of a smaller line is not used again for a larger one.
        self._infer(np.zeros((1, 3, HEIGHT, MAX_WIDTH), np.float32))

    def read(self, line: Pixels) -> list[Character]:
        """The characters of a line, with spaces between words."""
        if line.shape[0] != HEIGHT:
            width = max(1, round(line.shape[1] * HEIGHT / line.shape[0]))
            line = cv2.resize(line, (width, HEIGHT)).astype(np.uint8)
        characters: list[Character] = []
        start = 0
        while start < line.shape[1]:
            end, between_words = _end_of_part(line, start)
            characters += self._read_part(line[:, start:end], start / HEIGHT)
            if between_words:  # no space is read at the end of a part
                characters.append(Character(" ", 1.0, end / HEIGHT, end / HEIGHT))
            start = end
        return with_passed_over(characters, columns_with_ink(line.mean(axis=2)), HEIGHT)

    def _read_part(self, line: Pixels, offset: float) -> list[Character]:
        padded = np.zeros((HEIGHT, _WIDTHS[bisect_left(_WIDTHS, line.shape[1])], 3), np.float32)
        padded[:, : line.shape[1]] = line[:, :, ::-1] / np.float32(127.5) - 1
        likely = self._infer(np.ascontiguousarray(padded.transpose(2, 0, 1)[None]))[0]
        best = likely.argmax(axis=1)
        starts = np.flatnonzero((best != 0) & (best != np.roll(best, 1)))
        column = padded.shape[1] / len(best) / HEIGHT
        return [
            Character(
                self._alphabet[best[at]],
                float(likely[at, best[at]]),
                offset + max(0.0, (at - 1) * column),
                offset + (at + 2) * column,
            )
            for at in starts.tolist()
        ]


def _end_of_part(line: Pixels, start: int) -> tuple[int, bool]:
    """Where the part of the line that begins at `start` ends, and whether that is between words."""
    if line.shape[1] - start <= MAX_WIDTH:
        return line.shape[1], False
    middle = start + _PART // 2
    blank = ~columns_with_ink(line[:, middle : start + _PART].mean(axis=2))
    edges = np.flatnonzero(np.diff(np.pad(blank, 1).astype(int))).reshape(-1, 2)
    if not len(edges):
        return start + _PART, False
    widest = edges[np.argmax(edges[:, 1] - edges[:, 0])]
    return middle + int(widest.sum()) // 2, int(widest[1] - widest[0]) >= _GAP
