"""Reads lines, each in the alphabet that it is in."""

from dataclasses import replace
from pathlib import Path

from PIL import Image

from runners.reader.lines.ink import grey_of
from runners.reader.lines.merging import merge
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
_CYRILLIC_SURE = 0.9
_CYRILLIC = 0.6
"""Confidence under which what was read is not in Cyrillic letters."""
_DIFFERENCE = 0.25
"""How much surer a line must be in Latin letters on a page with Cyrillic lines."""
_LONG = 8.0
"""Heights of a line; longer ones are read in the page's alphabet first."""
_BESIDE = 0.08
"""Paper around a word that is read alone, in heights of the line."""


class LineReading:
    """A line, read in one alphabet or in both, each at most once."""

    def __init__(self, reader: "LineReader", pixels: Pixels) -> None:
        self._reader = reader
        self._pixels = pixels
        self._length = pixels.shape[1] / pixels.shape[0]
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
            characters = self._reader.cyrillic.read(grey_of(self._pixels))
            self._cyrillic = to_words(characters)
        return self._cyrillic

    def confidence(self) -> tuple[float, float]:
        """How well the line reads in Latin, and in Cyrillic."""
        words, whole = self.latin
        latin = mean_confidence(words) if whole else 0.0
        if latin >= _LATIN_SURE and sum(len(word.text) for word in words) >= _SURELY_LATIN:
            return latin, 0.0
        return latin, mean_confidence(self.cyrillic)

    def words(self, *, mostly_cyrillic: bool, any_cyrillic: bool) -> list[LineWord]:
        """The line, each word in its alphabet.

        mostly_cyrillic: a long line is in Cyrillic if it reads well. any_cyrillic: what looks alike
        in both alphabets is in Cyrillic.
        """
        if mostly_cyrillic and self._length > _LONG:
            confidence = mean_confidence(self.cyrillic)
            if confidence > _CYRILLIC_SURE:
                return merge(self.cyrillic, self._read_latin)
        words, whole = self.latin
        latin = mean_confidence(words) if whole else 0.0
        letters = sum(map(str.isalpha, "".join(word.text for word in words)))
        alike = any_cyrillic and 0 < letters < _SURELY_LATIN
        if latin >= _LATIN_SURE and not alike and not mostly_cyrillic:
            return words
        if latin >= _LATIN_SURE and not letters:
            return words
        cyrillic = mean_confidence(self.cyrillic)
        if cyrillic < _CYRILLIC and not any_cyrillic:
            return words
        if latin > cyrillic + (_DIFFERENCE if any_cyrillic else 0.0):
            return words
        return merge(self.cyrillic, self._read_latin)

    def _read_latin(self, start: float, end: float) -> LineWord | None:
        height = self._pixels.shape[0]
        left = max(0, round((start - _BESIDE) * height))
        right = min(self._pixels.shape[1], round((end + _BESIDE) * height))
        part = self._pixels[:, left:right]
        if part.shape[1] < 4:
            return None
        characters = self._reader.latin.read(part)
        if not any(c.text.strip() for c in characters) or not is_whole(characters, part):
            return None
        return LineWord(
            tuple(
                replace(c, start=c.start + left / height, end=c.end + left / height)
                for c in characters
                if c.text.strip()
            )
        )


class LineReader:
    """The recognisers. Used by one thread at a time."""

    def __init__(self, tessdata: Path) -> None:
        self.latin = PPRecogniser()
        self.cyrillic = Tesseract(tessdata, "rus")

    def close(self) -> None:
        self.cyrillic.close()

    def begin(self, image: Image.Image, quad: Quad) -> LineReading:
        """The line in a quadrilateral of the page, before it is read."""
        return LineReading(self, cut_out(image, quad, HEIGHT))
