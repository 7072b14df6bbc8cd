"""Reads lines, each in the alphabet that it is in."""

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from runners.reader.lines.ink import columns_with_ink, grey_of
from runners.reader.lines.merging import is_plain_latin, is_settled, merge, with_cyrillic
from runners.reader.lines.pp_recogniser import HEIGHT, PPRecogniser
from runners.reader.lines.quads import Pixels, Quad, cut_out
from runners.reader.lines.tesseract import Tesseract
from runners.reader.lines.words import (
    LineWord,
    is_whole,
    mean_confidence,
    to_words,
)

_LATIN_SURE = 0.9
_SURELY_LATIN = 10
"""Letters; what has so many, all read in Latin, is not in Cyrillic letters that look alike."""
_CYRILLIC_SURE = 0.85
_CYRILLIC_CLEAR = 0.9
"""Confidence under which a line is not in Cyrillic if all of it is plain Latin."""
_CYRILLIC = 0.6
"""Confidence under which what was read is not in Cyrillic letters."""
_FEWEST_CYRILLIC = 3
"""Letters of a line that is the first to be in Cyrillic."""
_LATIN_CLEAR = 0.95
_AS_MANY = 0.8
"""Share of the Cyrillic letters that the Latin ones of a clear line are at least."""
_DIFFERENCE = 0.25
"""How much surer a line must be in Latin letters on a page with Cyrillic lines."""
_SMALLER = 0.75
_CYRILLIC_NAMES = ("cyrillic", "eslav")
"""What PP-OCR calls its recognisers of Cyrillic: the second is for East Slavic languages."""
_NO_NUMBER = 3.0
"""Heights of a line; longer ones are read in the page's alphabet first."""
_LONG = 8.0
"""Heights of a line; a longer one is in the page's alphabet if it reads well in it."""
_REACH = 0.5
"""How far the ink of a word may reach out of its place, in heights of the line."""
_INEXACT = 0.15
"""How far from its place a letter may seem to be, in heights of the line."""
_BESIDE = 0.08
"""Paper around a word that is read alone, in heights of the line."""


class LineReading:
    """A line, read in one alphabet or in both, each at most once."""

    def __init__(self, reader: "LineReader", pixels: Pixels) -> None:
        self._reader = reader
        self._pixels = pixels
        self._length = pixels.shape[1] / pixels.shape[0]
        self._ink = columns_with_ink(pixels.mean(axis=2))
        self._latin: tuple[list[LineWord], bool] | None = None
        self._cyrillic: list[LineWord] | None = None

    @property
    def latin(self) -> tuple[list[LineWord], bool]:
        """The line in Latin letters, and whether nothing of it was left out."""
        if self._latin is None:
            characters = self._reader.latin.read(self._pixels)
            whole = is_whole(characters, self._pixels)
            self._latin = to_words(characters), whole
        return self._latin

    @property
    def cyrillic(self) -> list[LineWord]:
        """The line in Cyrillic letters, its Latin words as they came."""
        if self._cyrillic is None:
            words = self._reader.read_cyrillic(self._pixels)
            if mean_confidence(words) < _CYRILLIC and not self.latin[1]:
                # Tesseract gives up a word now and then that it knows at another size.
                size = round(self._pixels.shape[1] * _SMALLER), round(HEIGHT * _SMALLER)
                smaller = cv2.resize(self._pixels, size, interpolation=cv2.INTER_AREA)
                again = self._reader.read_cyrillic(smaller.astype(np.uint8))
                words = max(words, again, key=mean_confidence)
            self._cyrillic = words
        return self._cyrillic

    def confidence(self, *, likely_cyrillic: bool) -> tuple[float, float]:
        """How well the line reads in Latin, and in Cyrillic.

        likely_cyrillic: it is read in Cyrillic first. It is not read in the other alphabet if it
        reads well in the first one.
        """
        if likely_cyrillic and mean_confidence(self.cyrillic) > _CYRILLIC_CLEAR:
            return 0.0, mean_confidence(self.cyrillic)
        words, whole = self.latin
        latin = mean_confidence(words) if whole else 0.0
        if latin >= _LATIN_SURE and sum(len(word.text) for word in words) >= _SURELY_LATIN:
            return latin, 0.0
        return latin, mean_confidence(self.cyrillic)

    def words(self, *, mostly_cyrillic: bool, any_cyrillic: bool) -> list[LineWord]:
        """The line, each word in its alphabet.

        mostly_cyrillic: a line that reads well in Cyrillic is in it, if it or one of its words is
        long. any_cyrillic: what looks alike in both alphabets is in Cyrillic.
        """
        if mostly_cyrillic and self._length > _NO_NUMBER:
            is_clear = mean_confidence(self.cyrillic) > _CYRILLIC_CLEAR
            if is_clear and (self._length > _LONG or any(map(is_settled, self.cyrillic))):
                return merge(self.cyrillic, self._read_latin)
        words, whole = self.latin
        latin = mean_confidence(words) if whole else 0.0
        letters = _letters(words)
        alike = any_cyrillic and 0 < letters < _SURELY_LATIN
        if latin >= _LATIN_SURE and not alike and not mostly_cyrillic:
            return with_cyrillic(words, lambda: self.cyrillic) if any_cyrillic else words
        if latin >= _LATIN_SURE and not letters:
            return words
        cyrillic = mean_confidence(self.cyrillic)
        if not any_cyrillic and (cyrillic < _CYRILLIC or self._is_latin_after_all(cyrillic)):
            return words
        if latin > cyrillic + (_DIFFERENCE if any_cyrillic else 0.0):
            return with_cyrillic(words, lambda: self.cyrillic)
        if whole and cyrillic < _CYRILLIC_CLEAR and all(map(is_plain_latin, words)):
            return with_cyrillic(words, lambda: self.cyrillic)
        return merge(self.cyrillic, self._read_latin)

    def _is_latin_after_all(self, confidence: float) -> bool:
        """Whether the line is Latin, though it reads in Cyrillic, too, with this confidence.

        On a page that is not known to have Cyrillic lines, a mark reads as one letter of either
        alphabet, and a smudge keeps a clear Latin line from being whole.
        """
        words, whole = self.latin
        letters, cyrillic = _letters(words), _letters(self.cyrillic)
        if cyrillic < _FEWEST_CYRILLIC:
            return whole
        is_clear = letters >= _AS_MANY * cyrillic and mean_confidence(words) >= _LATIN_CLEAR
        return is_clear and confidence <= _CYRILLIC_SURE

    def _read_latin(self, start: float, end: float) -> list[LineWord]:
        """What stands between two places in Latin letters; empty if it cannot be read whole."""
        height, width = self._pixels.shape[:2]
        ink = self._ink
        left, right = max(0, round(start * height)), min(width, round(end * height))
        # The places of letters are not exact: none is to be cut.
        reach = round(_REACH * height)
        while left > max(0, round(start * height) - reach) and ink[left - 1]:
            left -= 1
        while right < min(width, round(end * height) + reach) and ink[right]:
            right += 1
        beside = round(_BESIDE * height)
        left, right = max(0, left - beside), min(width, right + beside)
        part = self._pixels[:, left:right]
        if part.shape[1] < 4:
            return []
        characters = self._reader.latin.read(part)
        if not is_whole(characters, part):
            return []
        offset = left / height
        placed = [replace(c, start=c.start + offset, end=c.end + offset) for c in characters]
        # A letter of the next word may have been cut out, too.
        return to_words([c for c in placed if start - _INEXACT <= c.middle <= end + _INEXACT])


def _letters(words: list[LineWord]) -> int:
    return sum(map(str.isalpha, "".join(word.text for word in words)))


class LineReader:
    """The recognisers. Used by one thread at a time."""

    def __init__(self, tessdata: Path, recognisers: Path | None = None) -> None:
        """Load the models.

        recognisers: a folder where a file whose name has "cyrillic" or "eslav" in it and ends in
        .onnx is PP-OCR's recogniser of Cyrillic; Tesseract reads Cyrillic where there is none.
        Raises RuntimeError if Tesseract's rus is missing.
        """
        self.latin = PPRecogniser()
        model = next(iter(cyrillic_models(recognisers)), None) if recognisers else None
        self._tesseract = None if model else Tesseract(tessdata, "rus")
        self._cyrillic = PPRecogniser(model) if model else None

    def close(self) -> None:
        if self._tesseract:
            self._tesseract.close()

    def read_cyrillic(self, line: Pixels) -> list[LineWord]:
        """The words of a line, read in Cyrillic letters."""
        if self._cyrillic:
            return to_words(self._cyrillic.read(line))
        assert self._tesseract is not None
        return to_words(self._tesseract.read(grey_of(line)))

    def begin(self, image: Image.Image, quad: Quad) -> LineReading:
        """The line in a quadrilateral of the page, before it is read."""
        return LineReading(self, cut_out(image, quad, HEIGHT))


def cyrillic_models(folder: Path) -> list[Path]:
    """PP-OCR's recognisers of Cyrillic in a folder, by name."""
    return [
        path
        for path in sorted(folder.glob("*.onnx"))
        if any(script in path.name.lower() for script in _CYRILLIC_NAMES)
    ]
