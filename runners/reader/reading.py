"""Reads a page with Tesseract: turned upright, deskewed, divided into lines, and line by line."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import tesserocr
from PIL import Image
from tesserocr import PSM, RIL, PyTessBaseAPI

from common.messages import Box, Line
from runners.reader.deskew import Frame, deskew, skew_of
from runners.reader.lighting import even_out
from runners.reader.merging import Word, is_doubtful, mean_confidence, merge
from runners.reader.read_page import ReadPage
from runners.reader.tessdata import LANGUAGES, ORIENTATION

_TEXT_BLOCKS = range(1, 9)
"""Tesseract's PolyBlockType: flowing text to caption."""
_MAX_PIXELS = 12_000_000
"""A larger page is shrunk; an A4 page at 300 dpi has 8.7 million."""
_SMALL_LINE = 25
"""Height of a line, pixels; smaller ones are read wrong more often."""
_GOOD_LINE = 32
"""The height that smaller lines are enlarged to, pixels."""
_UPRIGHT = 0.75
"""Confidence of what reads as text: that of a page upside down stays under 0.5."""
_NO_TEXT = 0.2
"""Confidence of what is read into a rule or a picture."""
_SAMPLE = 3
"""Lines that are read to find out whether the page is upright, and its language."""
_TURNS = {
    90: Image.Transpose.ROTATE_90,
    180: Image.Transpose.ROTATE_180,
    270: Image.Transpose.ROTATE_270,
}
"""What makes a page upright, by Tesseract's orientation: degrees clockwise that it was turned."""
_SIDE_PADDING = 4
"""Pixels beside a run of words, as in Tesseract's own recogniser."""
_PADDING = 0.25
"""Padding above and below, of the line's height: less cuts off the ends of commas."""


@dataclass(frozen=True)
class UnreadLine:
    """A line before it is read."""

    box: Box
    runs: list[Box]
    """The boxes of the runs of words that are read in one go."""


class Reader:
    """Tesseract with its trained data loaded. Used by one thread at a time."""

    def __init__(self, tessdata: Path) -> None:
        """Load the data. Raises RuntimeError if eng, rus or osd are missing from the folder."""
        # Leptonica logs errors for images that merely hold no text, such as tiny ones.
        tesserocr.set_leptonica_log_level(tesserocr.LeptLogLevel.NONE)
        folder = str(tessdata)
        self._readers = {
            code: PyTessBaseAPI(folder, name, psm=PSM.RAW_LINE) for code, name in LANGUAGES.items()
        }
        self._orientation = PyTessBaseAPI(folder, ORIENTATION, psm=PSM.OSD_ONLY)
        self._orientation.SetVariable("min_characters_to_try", "8")

    def close(self) -> None:
        for api in (*self._readers.values(), self._orientation):
            api.End()

    def read(
        self, image: Image.Image, language: str | None, check: Callable[[], None] = lambda: None
    ) -> ReadPage:
        """Read the page.

        language: "en" or "ru", which is tried first; None for the one that the page reads best in.
        check: called before each layout analysis and each line; what it raises ends the reading.
        """
        grey = even_out(image.convert("L"))
        sheet = self._lay_out(grey, check)
        guess, confidence = sheet.sample()
        if confidence < _UPRIGHT and (turn := self._turn(grey)):
            grey = grey.transpose(turn)
            sheet = self._lay_out(grey, check)
            guess, _ = sheet.sample()
        first = language or guess
        blocks = [
            [line for unread in block if (line := sheet.read_line(unread, first))]
            for block in sheet.blocks
        ]
        return ReadPage(grey.size, [block for block in blocks if block], first)

    def _lay_out(self, grey: Image.Image, check: Callable[[], None]) -> "_Sheet":
        skew = skew_of(grey)
        scale = min(1.0, (_MAX_PIXELS / (grey.width * grey.height)) ** 0.5)
        frame = deskew(grey, skew, scale)
        blocks = self._find_lines(frame.image, check)
        heights = [line.box[3] - line.box[1] for block in blocks for line in block]
        if heights and (height := median(heights)) < _SMALL_LINE:
            frame = deskew(grey, skew, min(4.0, _GOOD_LINE / height))
            blocks = self._find_lines(frame.image, check)
        return _Sheet(self._readers, frame, blocks, check)

    def _find_lines(self, image: Image.Image, check: Callable[[], None]) -> list[list[UnreadLine]]:
        """The blocks of text in reading order, each a list of lines."""
        check()
        api = self._readers["en"]
        api.SetPageSegMode(PSM.AUTO)
        _set_image(api, image)
        found = api.AnalyseLayout(merge_similar_words=True)
        api.SetPageSegMode(PSM.RAW_LINE)
        blocks: list[list[UnreadLine]] = []
        if found is None:
            return blocks
        for run in tesserocr.iterate_level(found, RIL.WORD):
            if run.BlockType() not in _TEXT_BLOCKS:
                continue
            if run.IsAtBeginningOf(RIL.BLOCK) or not blocks:
                blocks.append([])
            if run.IsAtBeginningOf(RIL.TEXTLINE) or not blocks[-1]:
                blocks[-1].append(UnreadLine(run.BoundingBox(RIL.TEXTLINE), []))
            blocks[-1][-1].runs.append(run.BoundingBox(RIL.WORD))
        return blocks

    def _turn(self, grey: Image.Image) -> Image.Transpose | None:
        """The turn that makes the page upright; None if it is upright, or nothing tells."""
        _set_image(self._orientation, grey)
        found = self._orientation.DetectOrientationScript()
        return _TURNS.get(found["orient_deg"]) if found else None


class _Sheet:
    """A laid-out page. Each run of words is read at most once per language."""

    def __init__(
        self,
        readers: dict[str, PyTessBaseAPI],
        frame: Frame,
        blocks: list[list[UnreadLine]],
        check: Callable[[], None],
    ) -> None:
        self._readers = readers
        self._frame = frame
        self._check = check
        self._words_of: dict[tuple[str, Box], list[Word]] = {}
        """What was read, by language and run."""
        self.blocks = blocks

    def sample(self) -> tuple[str, float]:
        """The language in which the widest lines read best, and the confidence in it."""
        lines = [line for block in self.blocks for line in block]
        widest = sorted(lines, key=lambda line: line.box[0] - line.box[2])[:_SAMPLE]
        confidences = {
            code: mean_confidence([word for line in widest for word in self._words(code, line)])
            for code in self._readers
        }
        return max(confidences.items(), key=lambda item: item[1])

    def read_line(self, line: UnreadLine, first: str) -> Line | None:
        """The line, read in the language `first`; None if it is no text."""
        words = [word for run in line.runs for word in self._read_best(run, line, first)]
        confidence = mean_confidence(words)
        if confidence < _NO_TEXT:
            return None
        return Line(
            text=" ".join(word.text for word in words),
            box=self._frame.box_on_page(line.box),
            confidence=round(confidence, 3),
        )

    def _read_best(self, run: Box, line: UnreadLine, first: str) -> list[Word]:
        """The words of the run in `first`, or in the other language where that is surer."""
        words = self._read(first, run, line)
        if not any(map(is_doubtful, words)):
            return words
        second = next(code for code in self._readers if code != first)
        return merge(words, self._read(second, run, line))

    def _words(self, code: str, line: UnreadLine) -> list[Word]:
        return [word for run in line.runs for word in self._read(code, run, line)]

    def _read(self, code: str, run: Box, line: UnreadLine) -> list[Word]:
        """The words of a run of the line in a language."""
        if (code, run) not in self._words_of:
            self._check()
            # A run is as high as its line, or the recogniser would scale "a" like "A".
            image = self._frame.image
            padding = round(_PADDING * (line.box[3] - line.box[1]))
            left, right = max(0, run[0] - _SIDE_PADDING), min(run[2] + _SIDE_PADDING, image.width)
            top, bottom = max(0, line.box[1] - padding), min(line.box[3] + padding, image.height)
            strip = image.crop((left, top, right, bottom))
            self._words_of[code, run] = list(_recognise(self._readers[code], strip, left))
        return self._words_of[code, run]


def _recognise(api: PyTessBaseAPI, strip: Image.Image, left: int) -> Iterator[Word]:
    """The words of a strip of the page, which begins at `left`."""
    _set_image(api, strip)
    api.Recognize()
    found = api.GetIterator()
    if found is None or found.Empty(RIL.WORD):
        return
    for word in tesserocr.iterate_level(found, RIL.WORD):
        text = word.GetUTF8Text(RIL.WORD).strip()
        if text:
            x0 = word.BoundingBox(RIL.WORD)[0]
            yield Word(text, word.Confidence(RIL.WORD) / 100, left + x0)


def _set_image(api: PyTessBaseAPI, image: Image.Image) -> None:
    api.SetImageBytes(image.tobytes(), image.width, image.height, 1, image.width)
    api.SetSourceResolution(300)  # else it warns of a guess
