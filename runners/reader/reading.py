"""Reads a page: finds its lines, the direction they are read in, their words and their order."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from common.messages import Box, Line, Rotation, Word
from runners.reader.layout import Placed, Row, in_reading_order, is_cell_gap
from runners.reader.lines.detection import LineDetector, paper_of
from runners.reader.lines.quads import Quad, read_towards, size_of
from runners.reader.lines.reading import LineReader, LineReading
from runners.reader.lines.words import LineWord, mean_confidence
from runners.reader.read_page import ReadPage
from runners.reader.upright import likely_direction, reading_direction, skew_of

_SAMPLE = 4
"""Lines that are read to find out whether the page is upright, and its alphabet."""
_NO_TEXT = 0.45
"""Confidence of what is read into a rule or a picture."""
_LEANING = 6.0
"""Degrees; a page that leans further is straightened to find its lines."""
_MAX_PIXELS = 12_000_000
"""Pixels of a page that is straightened; a larger one is shrunk for it."""
_STRAIGHT = 0.05
"""Degrees; less is no skew."""


class Reader:
    """The models of the embedded reader. Used by one thread at a time."""

    def __init__(self, tessdata: Path) -> None:
        """Load the models. Raises RuntimeError if rus is missing from the folder."""
        self._detector = LineDetector()
        self._reader = LineReader(tessdata)

    def close(self) -> None:
        self._reader.close()

    def read(
        self, image: Image.Image, language: str | None, check: Callable[[], None] = lambda: None
    ) -> ReadPage:
        """Read an RGB page.

        language: "en" or "ru", which is tried first; None for the one that the page reads best in.
        check: called before each part of the search for lines and each line; what it raises ends
        the reading.
        """
        quads = self._detector.find(image, check)
        skew = skew_of(likely_direction(quads))
        if abs(skew) > _LEANING:
            quads = self._find_straight(image, skew, check)
        sheet = _Sheet(self._reader, image, quads, check)
        direction = reading_direction(quads, sheet.how_well)
        sheet.face(direction)
        return sheet.read(language)

    def _find_straight(
        self, image: Image.Image, skew: float, check: Callable[[], None]
    ) -> list[Quad]:
        """The lines of a leaning page: outlines that lean are too wide, so it is straightened."""
        factor = min(1.0, (_MAX_PIXELS / (image.width * image.height)) ** 0.5)
        size = round(image.width * factor), round(image.height * factor)
        small = image if factor == 1 else image.resize(size, Image.Resampling.BILINEAR)
        straight = small.rotate(
            skew, Image.Resampling.BILINEAR, expand=True, fillcolor=paper_of(image)
        )
        angle = math.radians(skew)
        back = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
        middle, own_middle = np.array(straight.size) / 2, np.array(small.size) / 2
        return [
            (((quad - middle) @ back.T + own_middle) / factor).astype(np.float32)
            for quad in self._detector.find(straight, check)
        ]


class _Sheet:
    """A page whose lines were found."""

    def __init__(
        self,
        reader: LineReader,
        image: Image.Image,
        quads: list[Quad],
        check: Callable[[], None],
    ) -> None:
        self._reader = reader
        self._image = image
        self._quads = quads
        self._check = check
        self._direction = 0.0
        self._begun: dict[int, LineReading] = {}

    def face(self, direction: float) -> None:
        """Read the lines towards this direction, degrees clockwise from rightwards."""
        if direction != self._direction:
            self._begun.clear()
        self._direction = direction
        self._quads = [read_towards(quad, direction) for quad in self._quads]

    def how_well(self, direction: float) -> float:
        """The confidence in the widest lines, read towards the direction."""
        self.face(direction)
        return self._sample()[0]

    def _sample(self) -> tuple[float, bool]:
        """The confidence in the widest lines, and whether they are in Cyrillic."""
        widest = sorted(range(len(self._quads)), key=lambda n: -size_of(self._quads[n])[0])
        read = [self._line(n).confidence() for n in widest[:_SAMPLE]]
        if not read:
            return 0.0, False
        latin, cyrillic = (sum(side) / len(read) for side in zip(*read, strict=True))
        return sum(map(max, read)) / len(read), cyrillic > latin

    def read(self, language: str | None) -> ReadPage:
        mostly_cyrillic = language == "ru" or self._sample()[1]
        words = self._words(mostly_cyrillic)
        paragraphs = in_reading_order(
            [self._placed(number, read) for number, read in words.items()]
        )
        blocks = [[self._row(row, words) for row in paragraph] for paragraph in paragraphs]
        text = "".join(line.text for block in blocks for line in block)
        cyrillic, latin = (sum(map(test, text)) for test in (_is_cyrillic, _is_latin))
        degrees, skew = _turn(self._direction)
        size = self._image.size if degrees % 180 == 0 else self._image.size[::-1]
        return ReadPage(
            size,
            blocks,
            "ru" if cyrillic > latin or (cyrillic == latin and language == "ru") else "en",
            Rotation(degrees=degrees, skew=skew),
        )

    def _words(self, mostly_cyrillic: bool) -> dict[int, list[LineWord]]:
        """The words of each line that has text."""
        numbers = range(len(self._quads))
        words: dict[int, list[LineWord]] = {}
        any_cyrillic = mostly_cyrillic
        for number in numbers:
            words[number] = self._line(number).words(
                mostly_cyrillic=mostly_cyrillic, any_cyrillic=mostly_cyrillic
            )
            any_cyrillic |= sum(_is_cyrillic(c) for w in words[number] for c in w.text) >= 4
        if any_cyrillic and not mostly_cyrillic:
            for number in numbers:
                words[number] = self._line(number).words(mostly_cyrillic=False, any_cyrillic=True)
        return {n: read for n, read in words.items() if mean_confidence(read) >= _NO_TEXT}

    def _line(self, number: int) -> LineReading:
        if number not in self._begun:
            self._check()
            self._begun[number] = self._reader.begin(self._image, self._quads[number])
        return self._begun[number]

    def _placed(self, number: int, words: list[LineWord]) -> Placed:
        """Where the line stands on the page once that is straight."""
        angle = math.radians(-self._direction)
        turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
        corners = self._quads[number] @ turn.T
        left, right = corners[[0, 3], 0].mean(), corners[[1, 2], 0].mean()
        top, bottom = corners[[0, 1], 1].mean(), corners[[2, 3], 1].mean()
        characters = sum(len(word.text) + 1 for word in words) - 1
        return Placed(number, left, top, right, bottom, characters)

    def _row(self, row: Row, words: dict[int, list[LineWord]]) -> Line:
        text = ""
        for at, line in enumerate(row):
            if at:
                text += "\t" if is_cell_gap(row[at - 1], line) else " "
            text += " ".join(word.text for word in words[line.number])
        found = [
            Word(
                text=word.text,
                box=self._box(_part(self._quads[line.number], word)),
                confidence=round(word.confidence, 3),
            )
            for line in row
            for word in words[line.number]
        ]
        corners = np.concatenate([self._quads[line.number] for line in row])
        confidence = mean_confidence([word for line in row for word in words[line.number]])
        return Line(text=text, box=self._box(corners), confidence=round(confidence, 3), words=found)

    def _box(self, corners: NDArray[np.float32]) -> Box:
        """The box, on the upright page, of points of the page as it came."""
        degrees, _ = _turn(self._direction)
        width, height = self._image.size
        xs, ys = corners.T
        if degrees == 90:
            xs, ys, width, height = height - ys, xs, height, width
        elif degrees == 180:
            xs, ys = width - xs, height - ys
        elif degrees == 270:
            xs, ys, width, height = ys, width - xs, height, width
        left, top = max(0, math.floor(xs.min())), max(0, math.floor(ys.min()))
        return left, top, min(width, math.ceil(xs.max())), min(height, math.ceil(ys.max()))


def _turn(direction: float) -> tuple[Literal[0, 90, 180, 270], float]:
    """Degrees clockwise that make a page upright, and the skew that is left."""
    skew = skew_of(direction)
    degrees: Literal[0, 90, 180, 270] = -round(direction - skew) % 360  # type: ignore[assignment]
    return degrees, round(skew, 1) if abs(skew) >= _STRAIGHT else 0.0


def _part(quad: Quad, word: LineWord) -> NDArray[np.float32]:
    """The corners of a word in a line."""
    width, height = size_of(quad)
    start, end = (max(0.0, min(1.0, x * height / width)) for x in (word.start, word.end))
    along = quad[[1, 1, 2, 2]] - quad[[0, 0, 3, 3]]
    return quad[[0, 0, 3, 3]] + along * np.array([[start], [end], [end], [start]], np.float32)


def _is_cyrillic(character: str) -> bool:
    return "Ѐ" <= character <= "ӿ"


def _is_latin(character: str) -> bool:
    return character.isascii() and character.isalpha()
