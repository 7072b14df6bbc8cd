"""Reads Cyrillic lines with Tesseract."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import tesserocr
from numpy.typing import NDArray
from tesserocr import PSM, RIL, PyTessBaseAPI

from runners.reader.lines.ink import columns_with_ink
from runners.reader.lines.spaces import with_passed_over
from runners.reader.lines.words import Character

_BESIDE = 4
"""Pixels of paper that are left at each end of a line."""

_WIDEST = 0.7
"""Width of a letter, in heights of the line."""
_SPACE = 0.3
"""Width of a space."""


class Tesseract:
    """Tesseract with trained data loaded. Used by one thread at a time."""

    def __init__(self, folder: Path, name: str) -> None:
        """Load the data. Raises RuntimeError if it is missing from the folder."""
        tesserocr.set_leptonica_log_level(tesserocr.LeptLogLevel.NONE)
        self._api = PyTessBaseAPI(str(folder), name, psm=PSM.RAW_LINE)

    def close(self) -> None:
        self._api.End()

    def read(self, grey: NDArray[np.uint8]) -> list[Character]:
        """The characters of a grey line, with spaces between words."""
        height = grey.shape[0]
        has_ink = columns_with_ink(grey)
        ink = np.flatnonzero(has_ink)
        if not len(ink):
            return []
        # More paper at the ends of a line is read as quotation marks and full stops.
        left_out = max(0, int(ink[0]) - _BESIDE)
        grey = np.ascontiguousarray(grey[:, left_out : int(ink[-1]) + 1 + _BESIDE])
        width = grey.shape[1]
        self._api.SetImageBytes(grey.tobytes(), width, height, 1, width)
        self._api.SetSourceResolution(300)  # else it warns of a guess
        self._api.Recognize()
        found = self._api.GetIterator()
        characters: list[Character] = []
        if found is None or found.Empty(RIL.WORD):
            return characters
        for symbol in tesserocr.iterate_level(found, RIL.SYMBOL):
            box = symbol.BoundingBox(RIL.SYMBOL)
            if box is None:
                continue
            start, end = ((x + left_out) / height for x in (box[0], box[2]))
            if characters:
                # Where symbols begin is right; where they end is not.
                begins_word = symbol.IsAtBeginningOf(RIL.WORD)
                before = characters[-1]
                beside = start - _SPACE if begins_word else start
                characters[-1] = replace(before, end=min(beside, before.start + _WIDEST))
                if begins_word:
                    characters.append(Character(" ", 1.0, start, start))
            text, confidence = symbol.GetUTF8Text(RIL.SYMBOL), symbol.Confidence(RIL.WORD) / 100
            known = symbol.WordIsFromDictionary()
            characters.append(Character(text, confidence, start, min(end, start + _WIDEST), known))
        return with_passed_over(characters, has_ink, height, before_numbers_only=True)
