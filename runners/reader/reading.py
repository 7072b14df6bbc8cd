"""Reads a page: finds its lines, the direction they are read in, their words and their order."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from common.messages import Line, Word
from runners.reader.lines.detection import LineDetector
from runners.reader.lines.line_reader import LineReader
from runners.reader.lines.quads import Quad
from runners.reader.lines.words import LineWord, mean_confidence
from runners.reader.pages.arcs import Arc, ArcReader
from runners.reader.pages.finding import LineFinder
from runners.reader.pages.sheet import Row, Sheet, is_cyrillic
from runners.reader.pages.turning import Turning, corners_of
from runners.reader.pages.upright import by_orientation
from runners.reader.read_page import ReadPage


class Reader:
    """The models of the embedded reader. Used by one thread at a time."""

    def __init__(self, tessdata: Path, recognisers: Path | None = None) -> None:
        """Load the models.

        tessdata: the folder of Tesseract's data. recognisers: a folder with PP-OCR's recognisers
        of further scripts, see `LineReader`. Raises RuntimeError if rus is missing.
        """
        detector = LineDetector()
        self._finder = LineFinder(detector)
        self._reader = LineReader(tessdata, recognisers)
        self._arcs = ArcReader(detector, self._reader)

    def close(self) -> None:
        self._reader.close()

    def read(
        self, image: Image.Image, language: str | None, check: Callable[[], None] = lambda: None
    ) -> ReadPage:
        """Read an RGB or grey page.

        language: "en" or "ru", which is tried first; None for the one that the page reads best in.
        check: called before each part of the search for lines and each line; what it raises ends
        the reading.
        """
        lines = self._finder.find(image, check)
        arcs = self._arcs.read(image, check)
        lines = [line for line in lines if not any(arc.covers(line.quad) for arc in arcs)]
        any_cyrillic = any(arc.is_cyrillic for arc in arcs)
        sheets = [
            Sheet(self._reader, [lines[number] for number in numbers], check)
            for numbers in by_orientation([line.quad for line in lines])
        ]
        sheets.sort(key=lambda sheet: abs(sheet.direction))
        turning = Turning(image.size, sheets[0].direction)
        blocks = [
            [_line(row, turning) for row in paragraph]
            for sheet in sheets
            for paragraph in sheet.read(language, any_cyrillic=any_cyrillic)
        ]
        for arc in reversed(arcs):
            _insert(arc, turning, blocks)
        return ReadPage(turning.size, blocks, _language(blocks, language), turning.rotation)


def _line(row: Row, turning: Turning) -> Line:
    text = ""
    for cell in row:
        gap = "\t" if cell.after_gap else " "
        text += (gap if text else "") + cell.text
    read = [(word, corners_of(cell.quad, word)) for cell in row for word in cell.words]
    return _located(text, read, turning)


def _line_of_arc(arc: Arc, turning: Turning) -> Line:
    read = [(word, arc.strip.outline(place)) for word, place in arc.words]
    return _located(" ".join(word.text for word, _ in read), read, turning)


def _located(text: str, read: list[tuple[LineWord, Quad]], turning: Turning) -> Line:
    """The line of these words, each with its outline on the page as it came."""
    return Line(
        text=text,
        box=turning.box_of(np.concatenate([outline for _, outline in read])),
        confidence=round(mean_confidence([word for word, _ in read]), 3),
        words=[
            Word(
                text=word.text,
                box=turning.box_of(outline),
                confidence=round(word.confidence, 3),
            )
            for word, outline in read
        ],
    )


def _insert(arc: Arc, turning: Turning, blocks: list[list[Line]]) -> None:
    """Put the text along a circle before what stands in the circle, or after it."""
    left, top, right, bottom = turning.box_of(arc.strip.circle.corners)
    within = [
        number
        for number, block in enumerate(blocks)
        for x0, y0, x1, y1 in (line.box for line in block)
        if left < (x0 + x1) / 2 < right and top < (y0 + y1) / 2 < bottom
    ]
    if arc.is_inwards:
        at = max(within, default=len(blocks)) + 1
    else:
        at = min(within, default=len(blocks))
    blocks.insert(at, [_line_of_arc(arc, turning)])


def _language(blocks: list[list[Line]], hint: str | None) -> str:
    text = "".join(line.text for block in blocks for line in block)
    cyrillic = sum(map(is_cyrillic, text))
    latin = sum(letter.isascii() and letter.isalpha() for letter in text)
    if cyrillic == latin:
        return hint if hint == "ru" else "en"
    return "ru" if cyrillic > latin else "en"
