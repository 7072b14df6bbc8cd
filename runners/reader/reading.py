"""Reads a page: finds its lines, the direction they are read in, their words and their order."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from common.messages import Line, Word
from runners.reader.lines.line_reader import LineReader
from runners.reader.lines.words import mean_confidence
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
        self._finder = LineFinder()
        self._reader = LineReader(tessdata, recognisers)

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
        sheets = [
            Sheet(self._reader, [lines[number] for number in numbers], check)
            for numbers in by_orientation([line.quad for line in lines])
        ]
        sheets.sort(key=lambda sheet: abs(sheet.direction))
        turning = Turning(image.size, sheets[0].direction)
        blocks = [
            [_line(row, turning) for row in paragraph]
            for sheet in sheets
            for paragraph in sheet.read(language)
        ]
        return ReadPage(turning.size, blocks, _language(blocks, language), turning.rotation)


def _line(row: Row, turning: Turning) -> Line:
    text = ""
    for cell in row:
        gap = "\t" if cell.after_gap else " "
        text += (gap if text else "") + cell.text
    read = [(word, corners_of(cell.quad, word)) for cell in row for word in cell.words]
    return Line(
        text=text,
        box=turning.box_of(np.concatenate([corners for _, corners in read])),
        confidence=round(mean_confidence([word for word, _ in read]), 3),
        words=[
            Word(
                text=word.text,
                box=turning.box_of(corners),
                confidence=round(word.confidence, 3),
            )
            for word, corners in read
        ],
    )


def _language(blocks: list[list[Line]], hint: str | None) -> str:
    text = "".join(line.text for block in blocks for line in block)
    cyrillic = sum(map(is_cyrillic, text))
    latin = sum(letter.isascii() and letter.isalpha() for letter in text)
    if cyrillic == latin:
        return hint if hint == "ru" else "en"
    return "ru" if cyrillic > latin else "en"
