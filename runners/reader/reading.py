"""A page is turned upright, deskewed, divided into lines, and read line by line."""

import sys
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
import tesserocr
from PIL import Image, ImageFilter, ImageOps, ImageStat
from tesserocr import PSM, RIL, PyTessBaseAPI

from common.messages import Box, Line
from runners.reader.deskew import Frame, deskew, skew_of
from runners.reader.tessdata import LANGUAGES, ORIENTATION

_TEXT_BLOCKS = range(1, 9)  # Tesseract's PolyBlockType: flowing text to caption
_MAX_PIXELS = 12_000_000  # an A4 page at 300 dpi has 8.7 million
_SMALL_LINE = 25  # px, height of a line; smaller ones are read wrong more often
_GOOD_LINE = 32  # px, the height that smaller lines are brought to
_UPRIGHT = 0.75  # confidence of what reads as text: a page upside down stays under 0.5
_SURE = 0.85  # confidence under which the other language is asked, over which it is believed
_NO_TEXT = 0.2  # confidence of what is read into a rule or a picture
_SAMPLE = 3  # lines read to find out whether the page is upright, and its language
_TURNS = {  # Tesseract's orientation, degrees clockwise that the page was turned
    90: Image.Transpose.ROTATE_90,
    180: Image.Transpose.ROTATE_180,
    270: Image.Transpose.ROTATE_270,
}
_LOOK_ALIKES = frozenset("ABCEHKMOPTXYaceopxyАВСЕНКМОРТХУасеорху")
_SIDE_PADDING = 4  # px, as in Tesseract's own recogniser
_LIGHTEST = ImageFilter.MaxFilter(9)  # at 1/8 of the size: 72 px around
_SHADOW = 40  # grey values by which the paper's brightness may differ
_DARKEST_PAPER = 48  # grey value; what is darker is no paper in a shadow
_PADDING = 0.25  # of the line's height, above and below: less cuts off the ends of commas
_SAME_START = 10  # px by which two readings may differ on where a word begins


@dataclass(frozen=True)
class Word:
    text: str
    confidence: float
    x: int
    """Where it begins."""


@dataclass(frozen=True)
class TextRow:
    """A line before it is read: the boxes of the runs of words that are read in one go."""

    box: Box
    runs: list[Box]


@dataclass(frozen=True)
class ReadPage:
    """The text of one page. Boxes are in pixels of the upright page."""

    size: tuple[int, int]
    """Width, height of the page once it was turned upright."""
    blocks: list[list[Line]]
    language: str
    """ISO 639-1 code of the language that most of it is in."""

    @property
    def lines(self) -> list[Line]:
        return [line for block in self.blocks for line in block]

    @property
    def text(self) -> str:
        return "\n\n".join("\n".join(line.text for line in block) for block in self.blocks)


class Reader:
    """Tesseract with its trained data loaded. Used by one thread at a time."""

    def __init__(self, tessdata: Path) -> None:
        """Raises RuntimeError where eng, rus or osd are missing from the folder."""
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
        grey = _evenly_lit(_dark_on_light(image.convert("L")))
        sheet = self._lay_out(grey, check)
        guess, confidence = sheet.sample()
        if confidence < _UPRIGHT and (turn := self._turn(grey)):
            grey = grey.transpose(turn)
            sheet = self._lay_out(grey, check)
            guess, _ = sheet.sample()
        first = language or guess
        blocks = [
            [line for row in block if (line := sheet.line(row, first))] for block in sheet.blocks
        ]
        return ReadPage(grey.size, [block for block in blocks if block], first)

    def _lay_out(self, grey: Image.Image, check: Callable[[], None]) -> "_Sheet":
        skew = skew_of(grey)
        scale = min(1.0, (_MAX_PIXELS / (grey.width * grey.height)) ** 0.5)
        frame = deskew(grey, skew, scale)
        blocks = self._rows(frame.image, check)
        heights = [row.box[3] - row.box[1] for block in blocks for row in block]
        if heights and (height := median(heights)) < _SMALL_LINE:
            frame = deskew(grey, skew, min(4.0, _GOOD_LINE / height))
            blocks = self._rows(frame.image, check)
        return _Sheet(self._readers, frame, blocks, check)

    def _rows(self, image: Image.Image, check: Callable[[], None]) -> list[list[TextRow]]:
        """The blocks of text in reading order, each a list of rows."""
        check()
        api = self._readers["en"]
        api.SetPageSegMode(PSM.AUTO)
        _set_image(api, image)
        found = api.AnalyseLayout(merge_similar_words=True)
        api.SetPageSegMode(PSM.RAW_LINE)
        blocks: list[list[TextRow]] = []
        if found is None:
            return blocks
        for run in tesserocr.iterate_level(found, RIL.WORD):
            if run.BlockType() not in _TEXT_BLOCKS:
                continue
            if run.IsAtBeginningOf(RIL.BLOCK) or not blocks:
                blocks.append([])
            if run.IsAtBeginningOf(RIL.TEXTLINE) or not blocks[-1]:
                blocks[-1].append(TextRow(run.BoundingBox(RIL.TEXTLINE), []))
            blocks[-1][-1].runs.append(run.BoundingBox(RIL.WORD))
        return blocks

    def _turn(self, grey: Image.Image) -> Image.Transpose | None:
        """The turn that makes the page upright, None where it is or where nothing tells."""
        _set_image(self._orientation, grey)
        found = self._orientation.DetectOrientationScript()
        return _TURNS.get(found["orient_deg"]) if found else None


class _Sheet:
    """A laid-out page; each run of words is read at most once per language."""

    def __init__(
        self,
        readers: dict[str, PyTessBaseAPI],
        frame: Frame,
        blocks: list[list[TextRow]],
        check: Callable[[], None],
    ) -> None:
        self._readers = readers
        self._frame = frame
        self._check = check
        self._read: dict[tuple[str, Box], list[Word]] = {}
        self.blocks = blocks

    def sample(self) -> tuple[str, float]:
        """The language in which the widest lines read best, and the confidence in it."""
        rows = [row for block in self.blocks for row in block]
        widest = sorted(rows, key=lambda row: row.box[0] - row.box[2])[:_SAMPLE]
        read = {
            code: _confidence([w for row in widest for w in self._words(code, row)])
            for code in self._readers
        }
        return max(read.items(), key=lambda item: item[1])

    def line(self, row: TextRow, first: str) -> Line | None:
        """The row, read in the language `first`; None where it is no text."""
        words = [word for run in row.runs for word in self._best(run, row, first)]
        confidence = _confidence(words)
        if confidence < _NO_TEXT:
            return None
        return Line(
            text=" ".join(word.text for word in words),
            box=self._frame.box_on_page(row.box),
            confidence=round(confidence, 3),
        )

    def _best(self, run: Box, row: TextRow, first: str) -> list[Word]:
        """The words of the run in `first`, or in the other language where that is surer."""
        words = self._run(first, run, row)
        if not any(map(_doubtful, words)):
            return words
        second = next(code for code in self._readers if code != first)
        others = self._run(second, run, row)
        if _confidence(others) > max(_SURE, _confidence(words)):  # all of it is in the other
            words, others = others, words
        return list(_merge(words, others))

    def _words(self, code: str, row: TextRow) -> list[Word]:
        return [word for run in row.runs for word in self._run(code, run, row)]

    def _run(self, code: str, run: Box, row: TextRow) -> list[Word]:
        if (code, run) not in self._read:
            self._check()
            # A run is as high as its row, or the recogniser would scale "a" like "A".
            image = self._frame.image
            padding = round(_PADDING * (row.box[3] - row.box[1]))
            left, right = max(0, run[0] - _SIDE_PADDING), min(run[2] + _SIDE_PADDING, image.width)
            top, bottom = max(0, row.box[1] - padding), min(row.box[3] + padding, image.height)
            strip = image.crop((left, top, right, bottom))
            self._read[code, run] = list(_recognise(self._readers[code], strip, left))
        return self._read[code, run]


def _recognise(api: PyTessBaseAPI, strip: Image.Image, left: int) -> Iterator[Word]:
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


def _merge(first: list[Word], second: list[Word]) -> Iterator[Word]:
    """The words of the first reading; doubtful ones are replaced where the second is surer."""
    for words, rivals in _aligned(first, second):
        if any(map(_doubtful, words)) and _replaces(rivals, words):
            yield from rivals
        else:
            yield from words


def _aligned(first: list[Word], second: list[Word]) -> Iterator[tuple[list[Word], list[Word]]]:
    """Two readings of a line, divided where words of both begin at the same place."""
    starts = [
        word.x for word in first if any(abs(word.x - rival.x) <= _SAME_START for rival in second)
    ]
    cuts = [*(x - _SAME_START for x in starts), sys.maxsize]
    left, right = deque(first), deque(second)
    for cut in cuts:
        yield _take(left, cut), _take(right, cut)


def _take(words: deque[Word], end: int) -> list[Word]:
    return [words.popleft() for _ in range(sum(1 for word in words if word.x < end))]


def _doubtful(word: Word) -> bool:
    """Whether the word was hard to read, or is spelt alike in both alphabets: GBP reads as СВР."""
    letters = set(filter(str.isalpha, word.text))
    alike = word.text.isupper() and letters <= _LOOK_ALIKES
    return alike or (word.confidence < _SURE and any(map(str.isalnum, word.text)))


def _replaces(rivals: list[Word], words: list[Word]) -> bool:
    """Whether the other language is surer, and its letters are not those that look alike."""
    confidence = _confidence(rivals)
    letters = set(filter(str.isalpha, "".join(word.text for word in rivals)))
    if letters:
        return confidence > _SURE and not letters <= _LOOK_ALIKES
    return confidence > max(_SURE, _confidence(words))


def _confidence(words: list[Word]) -> float:
    """The mean over the characters, 0 where there are none."""
    characters = sum(len(word.text) for word in words)
    return sum(w.confidence * len(w.text) for w in words) / characters if characters else 0.0


def _dark_on_light(grey: Image.Image) -> Image.Image:
    """The page, inverted where its ink is lighter than its paper; paper is most of any part."""
    reduced = grey.reduce(8)
    lightest, darkest = (reduced.filter(f) for f in (_LIGHTEST, ImageFilter.MinFilter(9)))
    mean, light, dark = (ImageStat.Stat(part).mean[0] for part in (reduced, lightest, darkest))
    return ImageOps.invert(grey) if mean - dark < light - mean else grey


def _evenly_lit(grey: Image.Image) -> Image.Image:
    """The page as if its paper were white everywhere: a photographed page has shadows."""
    paper = np.asarray(grey.reduce(8).filter(_LIGHTEST).filter(ImageFilter.GaussianBlur(8)))
    if np.ptp(paper) < _SHADOW:
        return grey
    light = np.asarray(Image.fromarray(paper).resize(grey.size), np.float32)
    levelled = np.asarray(grey) * (255 / light.clip(_DARKEST_PAPER))
    return Image.fromarray(levelled.clip(0, 255).astype(np.uint8))


def _set_image(api: PyTessBaseAPI, image: Image.Image) -> None:
    api.SetImageBytes(image.tobytes(), image.width, image.height, 1, image.width)
    api.SetSourceResolution(300)  # else it warns of a guess
