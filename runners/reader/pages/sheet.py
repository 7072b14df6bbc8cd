"""Reads the lines of a page that run in the same direction."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from common.reading_order import Placed, in_reading_order, is_cell_gap
from runners.reader.lines.line_reader import LineReader, LineReading
from runners.reader.lines.quads import Quad, read_towards, size_of
from runners.reader.lines.words import LineWord, mean_confidence
from runners.reader.pages.finding import FoundLine
from runners.reader.pages.upright import reading_direction

_SAMPLE = 4
"""Lines that are read to find out whether the page is upright, and its alphabet."""
_ENOUGH = 2
"""Lines of the sample after which no others are read if these read badly."""
_BADLY = 0.6
"""Confidence of lines that are read upside down at most."""
_NO_TEXT = 0.45
"""Confidence of what is read into a rule or a picture."""
_SOME_CYRILLIC = 4
"""Letters of a line from which on the page is known to have Cyrillic lines."""
_CELL_GAP = 1.1
"""Heights of a line between two words that are cells of a table."""


@dataclass(frozen=True)
class Cell:
    """A line that was read, or a part of a row."""

    quad: Quad
    words: list[LineWord]
    after_gap: bool = False
    """Whether there is a wide gap between it and the cell before."""

    @property
    def text(self) -> str:
        """Its words; tabs part those that are as far apart as cells."""
        text = self.words[0].text
        for word, next_word in pairwise(self.words):
            gap = next_word.start - word.end
            text += ("\t" if gap > _CELL_GAP else " ") + next_word.text
        return text


Row = list[Cell]


class Sheet:
    """The lines of a page that run in the same direction."""

    def __init__(
        self, reader: LineReader, lines: list[FoundLine], check: Callable[[], None]
    ) -> None:
        """Find out the direction. check: called before each line; what it raises ends the work."""
        self._reader = reader
        self._lines = lines
        self._check = check
        self._begun: dict[int, LineReading] = {}
        self.direction = 0.0
        """Degrees clockwise from rightwards."""
        self._face(reading_direction([line.quad for line in lines], self._how_well))

    def read(self, language: str | None, *, any_cyrillic: bool = False) -> list[list[Row]]:
        """The paragraphs, in reading order, each of rows.

        language: as in `Reader.read`. any_cyrillic: whether other text of the page is in Cyrillic.
        """
        words = self._words(language == "ru" or self._sample()[1], any_cyrillic)
        placed = [self._placed(number, read) for number, read in words.items()]
        return [
            [
                [
                    Cell(
                        self._lines[line.number].quad,
                        words[line.number],
                        at > 0 and is_cell_gap(row[at - 1], line),
                    )
                    for at, line in enumerate(row)
                ]
                for row in paragraph
            ]
            for paragraph in in_reading_order(placed)
        ]

    def _face(self, direction: float) -> None:
        """Read the lines towards this direction from now on."""
        if direction != self.direction:
            self._begun.clear()
        self.direction = direction
        self._lines = [
            replace(line, quad=read_towards(line.quad, direction)) for line in self._lines
        ]

    def _how_well(self, direction: float) -> float:
        """The confidence in the widest lines, read towards the direction."""
        self._face(direction)
        return self._sample()[0]

    def _sample(self) -> tuple[float, bool]:
        """The confidence in the widest lines, and whether they are in Cyrillic."""
        widths = [size_of(line.quad)[0] for line in self._lines]
        widest = sorted(range(len(widths)), key=lambda number: -widths[number])[:_SAMPLE]
        read: list[tuple[float, float]] = []
        mean, mostly_cyrillic = 0.0, False
        for number in widest:
            read.append(self._begin(number).confidence(likely_cyrillic=mostly_cyrillic))
            latin, cyrillic = (sum(side) / len(read) for side in zip(*read, strict=True))
            mean, mostly_cyrillic = sum(map(max, read)) / len(read), cyrillic > latin
            if len(read) == _ENOUGH and mean < _BADLY:
                break
        return mean, mostly_cyrillic

    def _words(self, mostly_cyrillic: bool, any_cyrillic: bool) -> dict[int, list[LineWord]]:
        """The words of each line that has text, by its number."""
        any_cyrillic |= mostly_cyrillic
        words = self._read_all(mostly_cyrillic, any_cyrillic)
        if not any_cyrillic and any(map(has_cyrillic, words.values())):
            words = self._read_all(mostly_cyrillic, True)
        return {n: read for n, read in words.items() if mean_confidence(read) >= _NO_TEXT}

    def _read_all(self, mostly_cyrillic: bool, any_cyrillic: bool) -> dict[int, list[LineWord]]:
        return {
            number: self._begin(number).words(
                mostly_cyrillic=mostly_cyrillic, any_cyrillic=any_cyrillic
            )
            for number in range(len(self._lines))
        }

    def _begin(self, number: int) -> LineReading:
        if number not in self._begun:
            self._check()
            line = self._lines[number]
            self._begun[number] = self._reader.begin(line.image, line.quad)
        return self._begun[number]

    def _placed(self, number: int, words: list[LineWord]) -> Placed:
        """Where the line stands on the page once that is straight."""
        angle = math.radians(-self.direction)
        turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
        corners = self._lines[number].quad @ turn.T
        left, right = corners[[0, 3], 0].mean(), corners[[1, 2], 0].mean()
        top, bottom = corners[[0, 1], 1].mean(), corners[[2, 3], 1].mean()
        characters = sum(len(word.text) + 1 for word in words) - 1
        return Placed(number, left, top, right, bottom, characters)


def has_cyrillic(words: list[LineWord]) -> bool:
    letters = [letter for word in words for letter in word.text if is_cyrillic(letter)]
    return len(letters) >= _SOME_CYRILLIC


def is_cyrillic(character: str) -> bool:
    return "Ѐ" <= character <= "ӿ"
