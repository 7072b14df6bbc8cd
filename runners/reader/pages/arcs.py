"""Reads the text that runs along circles: that of round stamps and seals."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
from PIL import Image

from runners.reader.lines.detection import LineDetector
from runners.reader.lines.line_reader import LineReader
from runners.reader.lines.quads import Quad, size_of
from runners.reader.lines.words import LineWord, mean_confidence
from runners.reader.pages.circles import Circle, Unrolled, circles_of
from runners.reader.pages.finding import FoundLine
from runners.reader.pages.sheet import Row, Sheet, has_cyrillic
from runners.reader.pages.turning import corners_of

_LETTERS = 5
"""Letters of a row along a circle, at least: a picture reads as fewer."""
_WELL = 0.85
"""Confidence in them, at least."""
_SENSE = 0.6
"""Confidence in the longest row, at least: where it makes no sense, there is no text."""
_LONG = 0.14
"""Length of the row in turns, at least: what is shorter is nearly straight, and read as such."""
_ORNAMENTS = frozenset("*•★☆●")
"""What parts the words along a circle, or stands between their end and their beginning."""
_ROUNDISH = 1.5
"""How many times longer than high a letter or an ornament is at most."""
_BESIDE = 0.8
"""How far the lines that a row takes the place of reach out of it, in heights of the row."""


@dataclass(frozen=True)
class Arc:
    """A row of text along a circle."""

    words: list[tuple[LineWord, Quad]]
    """Each with its place on the strip."""
    strip: Unrolled
    is_inwards: bool
    """Whether the tops of its letters are towards the middle, as at the bottom of a stamp."""

    @property
    def is_cyrillic(self) -> bool:
        return has_cyrillic([word for word, _ in self.words])

    def covers(self, quad: Quad) -> bool:
        """Whether a line of the page is a part of this text, or an ornament beside it."""
        corners = np.concatenate([place for _, place in self.words])
        top, bottom = corners[:, 1].min(), corners[:, 1].max()
        beside = _BESIDE * (bottom - top)
        places = self.strip.places(np.vstack([quad, quad.mean(axis=0)]))
        across = bool(((top - beside < places[:, 1]) & (places[:, 1] < bottom + beside)).all())
        x = places[-1, 0]
        along = any(
            place[:, 0].min() - beside < x < place[:, 0].max() + beside for _, place in self.words
        )
        return across and (along or max(size_of(quad)) < _ROUNDISH * min(size_of(quad)))


class ArcReader:
    """Reads along circles. Used by one thread at a time."""

    def __init__(self, detector: LineDetector, reader: LineReader) -> None:
        self._detector = detector
        self._reader = reader

    def read(self, image: Image.Image, check: Callable[[], None]) -> list[Arc]:
        """The rows of text along the circles of an RGB or grey page.

        check: called before each step; what it raises ends the reading.
        """
        return [arc for circle in circles_of(image) for arc in self._along(image, circle, check)]

    def _along(self, image: Image.Image, circle: Circle, check: Callable[[], None]) -> list[Arc]:
        strip = Unrolled(image, circle, 0.0)
        quads = self._find(strip, check)
        if not quads:
            return []
        # No word is to be cut where the strip begins.
        strip = Unrolled(image, circle, _widest_gap(strip, quads))
        quads = self._find(strip, check)
        quads.sort(key=lambda quad: -np.ptp(quad[:, 0]))
        outwards: list[FoundLine] = []
        inwards: list[FoundLine] = []
        for quad in quads:
            check()
            upright = self._reader.begin(strip.image, quad).confidence(likely_cyrillic=False)
            head_down = self._reader.begin(strip.image, np.roll(quad, 2, axis=0))
            turned = head_down.confidence(likely_cyrillic=False)
            if quad is quads[0] and max(*upright, *turned) < _SENSE:
                return []
            side = outwards if max(upright) >= max(turned) else inwards
            side.append(FoundLine(quad, strip.image))
        sheets = [Sheet(self._reader, inwards, check)]
        if abs(sheets[0].direction) < 90:  # they do not read well when they are turned
            sheets = []
            outwards += inwards
        sheets.insert(0, Sheet(self._reader, outwards, check))
        return [
            arc
            for sheet in sheets
            for paragraph in sheet.read(None)
            for row in paragraph
            if (arc := _arc(row, strip, abs(sheet.direction) > 90)) is not None
        ]

    def _find(self, strip: Unrolled, check: Callable[[], None]) -> list[Quad]:
        """The lines along the strip."""
        quads = self._detector.find(strip.image, check)
        return [quad for quad in quads if np.ptp(quad[:, 0]) >= np.ptp(quad[:, 1])]


def _widest_gap(strip: Unrolled, quads: Sequence[Quad]) -> float:
    """The middle of the widest part of the strip that has no line, in turns."""
    spans = sorted((float(quad[:, 0].min()), float(quad[:, 0].max())) for quad in quads)
    width = strip.image.width
    ends = [spans[0][1]]
    for _, end in spans[1:]:
        ends.append(max(ends[-1], end))
    starts = [start for start, _ in spans[1:]] + [spans[0][0] + width]
    gaps = zip(ends, starts, strict=True)
    return max((start - end, (start + end) / 2 / width) for end, start in gaps)[1]


def _arc(row: Row, strip: Unrolled, is_inwards: bool) -> Arc | None:
    """The row without its ornaments; None if it is no text."""
    words = [
        (part, corners_of(cell.quad, part))
        for cell in row
        for word in cell.words
        for part in _without_ornaments(word)
    ]
    letters = sum(map(str.isalpha, "".join(word.text for word, _ in words)))
    length = sum(float(np.ptp(place[:, 0])) for _, place in words) / strip.image.width
    well = mean_confidence([word for word, _ in words]) >= _WELL
    if letters < _LETTERS or not well or length < _LONG:
        return None
    return Arc(_from_the_first(words, strip.image.width), strip, is_inwards)


def _without_ornaments(word: LineWord) -> list[LineWord]:
    groups = groupby(word.characters, lambda character: character.text in _ORNAMENTS)
    parts = [LineWord(tuple(group)) for is_ornament, group in groups if not is_ornament]
    return [part for part in parts if any(map(str.isalnum, part.text))]


def _from_the_first(words: list[tuple[LineWord, Quad]], around: int) -> list[tuple[LineWord, Quad]]:
    """The words along a circle from the one that the widest gap is before.

    around: the length of the circle.
    """
    middles = np.array([place.mean(axis=0)[0] for _, place in words])
    lengths = np.array([np.ptp(place[:, 0]) for _, place in words])
    gaps = np.abs(middles - np.roll(middles, 1)) - (lengths + np.roll(lengths, 1)) / 2
    gaps[0] += around - 2 * np.abs(middles[0] - middles[-1])  # the other way round the circle
    first = int(gaps.argmax())
    return words[first:] + words[:first]
