"""Takes the text layer of a PDF's page where it is sound. Runs in the process that draws the PDF.

A layer is sound if all of this holds:
- Its letters are no garbage: few characters without a known meaning (replacement characters,
  private use, control characters, glyphs that the font does not map), few symbols, few letters such
  as "Ïðîò", which Cyrillic in a wrong encoding becomes, and as many vowels as words have: text of a
  font with a shifted encoding has few.
- It is upright on the page as it is shown.
- It says what is seen: nearly all of its words have ink under them.
- It covers what is drawn: where pictures take much of the page, as in a scan, most of the ink lies
  under words. So a scan with a partial layer is not taken, nor a page with a large photograph.

Forms that are filled in and annotations are part of the text, as they are drawn too.
"""

import ctypes
import math
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pypdfium2
import pypdfium2.raw as pdfium
from PIL import Image, ImageDraw

_MEANINGLESS = 0.02
"""Largest share of characters without a known meaning."""
_SYMBOLS = 0.4
"""Largest share of characters that are neither letters nor digits."""
_ACCENTED = 0.3
"""Largest share of letters from À to ÿ: no language that is written with them has so many."""
_VOWELS = 0.25, 0.65
"""Share of vowels among Latin and Cyrillic letters: English has 0.38, Russian 0.42."""
_JUDGED_LETTERS = 30
"""Fewer letters tell nothing about vowels."""
_TURNED = 0.02
"""Largest share of characters that are not upright."""
_HIDDEN = 0.05
"""Largest share of characters without ink; they are left out."""
_CONTRAST = 24
"""Grey levels by which ink differs from its paper, at least."""
_PICTURES = 0.25
"""Share of the page that pictures may cover without a look at the ink."""
_UNCOVERED = 0.2
"""Largest share of the ink of a page with pictures that lies outside of words."""
_INK = 64
"""Grey levels by which the ink of a picture differs from the paper."""
_DPI = 100
_MOST_PIXELS = 2_000_000
"""What the page is drawn with to look at its ink."""
_PRECISION = 64
"""PDFium tells places in whole pixels; they are asked for on a page so many times as large."""
_HYPHENS = {"\x02", "\ufffe", "\xad"}
"""What PDFium says for a hyphen at the end of a line, and the soft hyphen."""
_VOWEL_LETTERS = frozenset("aeiouyаеиоуыэюяєії")

Corners = tuple[float, float, float, float]
"""Left, top, right, bottom in pixels of the page."""


@dataclass(frozen=True)
class _Glyph:
    text: str
    box: Corners
    """Around its ink."""
    room: Corners
    """As high as the font's highest and lowest letters."""
    has_meaning: bool
    is_upright: bool


class TextLayers:
    """The text layers of one PDF's pages. It opens the PDF again, since it changes pages."""

    def __init__(self, data: bytes) -> None:
        self._document = pypdfium2.PdfDocument(data)
        self._document.init_forms()

    def find(
        self, number: int, scale_of: Callable[[pypdfium2.PdfPage], float]
    ) -> dict[str, Any] | None:
        """The sound layer of a page, from 0, ready for JSON; None if it has none.

        `size` is the page's width and height in pixels, `words` a list of text, box and room of
        each word, in the order of the file. scale_of: the pixels a point that the page is drawn
        with.
        """
        page = self._document[number]
        scale = scale_of(page)
        if pdfium.FPDFPage_Flatten(page, pdfium.FLAT_NORMALDISPLAY) == pdfium.FLATTEN_SUCCESS:
            page.close()
            page = self._document[number]
        try:
            return _find(page, scale)
        finally:
            page.close()


def _find(page: pypdfium2.PdfPage, scale: float) -> dict[str, Any] | None:
    width, height = (math.ceil(side * scale) for side in page.get_size())
    glyphs = list(_glyphs(page, width, height))
    if not _is_legible([g for g in glyphs if g and g.text.strip()]):
        return None
    words = list(_words(glyphs))
    picture, shrink = _draw(page, width)
    seen = [word for word in words if _has_ink(picture, _scaled(word[1], shrink))]
    letters = sum(len(text) for text, *_ in words)
    if not seen or sum(len(text) for text, *_ in seen) < (1 - _HIDDEN) * letters:
        return None
    if _picture_share(page) > _PICTURES:
        rooms = [_scaled(room, shrink) for _, _, room in seen]
        if _uncovered(picture, rooms) > _UNCOVERED:
            return None
    return {"size": (width, height), "words": seen}


def _glyphs(page: pypdfium2.PdfPage, width: int, height: int) -> Iterator[_Glyph | None]:
    """The characters that lie on the page, in the order of the file; None where a word ends."""
    to_pixels = _transform(page, width, height)
    turn = math.radians(page.get_rotation())
    text = page.get_textpage()
    edges = [ctypes.c_double() for _ in range(4)]
    room = pdfium.FS_RECTF()
    try:
        for index in range(text.count_chars()):
            code = pdfium.FPDFText_GetUnicode(text, index)
            shown = chr(code) if code < 0x110000 else "\ufffd"
            shown = "-" if shown in _HYPHENS else shown
            generated = pdfium.FPDFText_IsGenerated(text, index) == 1
            if shown.isspace() or (generated and shown != "-"):
                yield None
                continue
            if generated or not pdfium.FPDFText_GetCharBox(text, index, *edges):
                continue
            left, right, bottom, top = (edge.value for edge in edges)
            box = to_pixels(left, bottom, right, top)
            if box[2] < 0 or box[3] < 0 or box[0] > width or box[1] > height:
                continue  # outside of the page
            around = box
            if pdfium.FPDFText_GetLooseCharBox(text, index, room):
                around = to_pixels(room.left, room.bottom, room.right, room.top)
            unmapped = pdfium.FPDFText_HasUnicodeMapError(text, index) == 1
            angle = pdfium.FPDFText_GetCharAngle(text, index) + turn
            yield _Glyph(
                unicodedata.normalize("NFKC", shown) if "\ufb00" <= shown <= "\ufb06" else shown,
                box,
                around,
                has_meaning=not unmapped and _has_meaning(shown),
                is_upright=math.cos(angle) > 0.95,
            )
    finally:
        text.close()


def _has_meaning(character: str) -> bool:
    return character != "\ufffd" and not unicodedata.category(character).startswith("C")


def _transform(
    page: pypdfium2.PdfPage, width: int, height: int
) -> Callable[[float, float, float, float], Corners]:
    """The function that turns left, bottom, right, top in points into corners in pixels."""

    def to_pixels(x: float, y: float) -> tuple[float, float]:
        across, down = ctypes.c_int(), ctypes.c_int()
        size = width * _PRECISION, height * _PRECISION
        pdfium.FPDF_PageToDevice(page, 0, 0, *size, 0, x, y, across, down)
        return across.value / _PRECISION, down.value / _PRECISION

    origin, x_unit, y_unit = to_pixels(0, 0), to_pixels(1000, 0), to_pixels(0, 1000)
    (a, b), (c, d) = (
        [(end - start) / 1000 for start, end in zip(origin, unit, strict=True)]
        for unit in (x_unit, y_unit)
    )

    def corners(left: float, bottom: float, right: float, top: float) -> Corners:
        xs, ys = zip(
            *(
                (origin[0] + a * x + c * y, origin[1] + b * x + d * y)
                for x, y in ((left, bottom), (right, top))
            ),
            strict=True,
        )
        return min(xs), min(ys), max(xs), max(ys)

    return corners


def _is_legible(glyphs: Sequence[_Glyph]) -> bool:
    """Whether there are characters, and they are upright and no garbage."""
    count = len(glyphs)
    if not count or sum(not glyph.is_upright for glyph in glyphs) > _TURNED * count:
        return False
    if sum(not glyph.has_meaning for glyph in glyphs) > _MEANINGLESS * count:
        return False
    text = "".join(glyph.text for glyph in glyphs).lower()
    counts = Counter(text)
    symbols = {c: n for c, n in counts.items() if not c.isalnum() and c not in "._-–—"}
    if sum(symbols.values()) > _SYMBOLS * count:  # leaders and blanks to fill in are no garbage
        return False
    letters = [c for c in text if c.isalpha()]
    if sum("à" <= c <= "ÿ" for c in letters) > _ACCENTED * len(letters):
        return False
    bases = [unicodedata.normalize("NFD", c)[0] for c in letters]
    judged = [c for c in bases if "a" <= c <= "z" or "а" <= c <= "ї"]
    vowels = sum(c in _VOWEL_LETTERS for c in judged)
    lowest, highest = (share * len(judged) for share in _VOWELS)
    return len(judged) < _JUDGED_LETTERS or lowest <= vowels <= highest


def _words(glyphs: Sequence[_Glyph | None]) -> Iterator[tuple[str, Corners, Corners]]:
    """Text, box and room of each word."""
    word: list[_Glyph] = []
    for glyph in [*glyphs, None]:
        if word and (glyph is None or _is_apart(word[-1].room, glyph.room)):
            yield (
                "".join(part.text for part in word),
                _around([part.box for part in word]),
                _around([part.room for part in word]),
            )
            word = []
        if glyph is not None:
            word.append(glyph)


def _is_apart(before: Corners, after: Corners) -> bool:
    """Whether a character stands away from the one before it."""
    height = min(before[3] - before[1], after[3] - after[1])
    beside = min(before[3], after[3]) - max(before[1], after[1]) > 0.3 * height
    return not beside or not -height < after[0] - before[2] < 0.5 * height


def _around(boxes: Sequence[Corners]) -> Corners:
    lefts, tops, rights, bottoms = zip(*boxes, strict=True)
    return min(lefts), min(tops), max(rights), max(bottoms)


def _draw(page: pypdfium2.PdfPage, width: int) -> tuple[Image.Image, float]:
    """The page in grey and small, and its pixels for each pixel of a page of that width."""
    area = page.get_width() * page.get_height()
    scale = min(_DPI / 72, math.sqrt(_MOST_PIXELS / area))
    picture: Image.Image = page.render(scale=scale, grayscale=True).to_pil().convert("L")
    return picture, picture.width / width


def _scaled(box: Corners, scale: float) -> tuple[int, int, int, int]:
    """The box on the small picture, at least a pixel in size."""
    left, top, right, bottom = (edge * scale for edge in box)
    return math.floor(left), math.floor(top), math.ceil(right) + 1, math.ceil(bottom) + 1


def _has_ink(picture: Image.Image, box: tuple[int, int, int, int]) -> bool:
    left, top = max(box[0], 0), max(box[1], 0)
    right, bottom = min(box[2], picture.width), min(box[3], picture.height)
    if left >= right or top >= bottom:
        return False
    levels = picture.crop((left, top, right, bottom)).tobytes()
    return max(levels) - min(levels) >= _CONTRAST


def _picture_share(page: pypdfium2.PdfPage) -> float:
    """The share of the page that pictures cover, and groups that have pictures in them."""
    area = 0.0
    kinds = [pdfium.FPDF_PAGEOBJ_IMAGE, pdfium.FPDF_PAGEOBJ_FORM]
    page_box = page.get_bbox()
    for thing in page.get_objects(filter=kinds, max_depth=1):
        images = [pdfium.FPDF_PAGEOBJ_IMAGE]
        is_group = thing.type == pdfium.FPDF_PAGEOBJ_FORM
        if is_group and not any(page.get_objects(filter=images, form=thing, level=1)):
            continue
        left, bottom, right, top = thing.get_bounds()
        across = min(right, page_box[2]) - max(left, page_box[0])
        up = min(top, page_box[3]) - max(bottom, page_box[1])
        area += max(0.0, across) * max(0.0, up)
    return area / ((page_box[2] - page_box[0]) * (page_box[3] - page_box[1]))


def _uncovered(picture: Image.Image, rooms: Sequence[tuple[int, int, int, int]]) -> float:
    """The share of the ink that lies outside of words."""
    counts = picture.histogram()
    paper = counts.index(max(counts))
    ink = picture.point([255 * (abs(level - paper) > _INK) for level in range(256)])
    before = ink.histogram()[255]
    draw = ImageDraw.Draw(ink)
    for room in rooms:
        draw.rectangle(room, fill=0)
    return ink.histogram()[255] / before if before else 0.0
