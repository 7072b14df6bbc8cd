"""Takes the text layer of a PDF's page where it is sound. Runs in the process that draws the PDF.

A layer is sound if all of this holds:
- Its letters are no garbage: few characters without a known meaning (replacement characters,
  private use, control characters, glyphs that the font does not map), few symbols, few letters such
  as "Ïðîò", which Cyrillic in a wrong encoding becomes, and as many vowels as words have: text of a
  font with a shifted encoding has few. Few words are such as "co6paHue", which Cyrillic becomes
  where it was recognised as English.
- It is upright on the page as it is shown.
- It says what is seen: nearly all of its words have ink under them.
- It covers what is drawn: where pictures take much of the page, as in a scan, most of the ink lies
  under words. So a scan with a partial layer is not taken, nor a page with a large photograph.

Forms that are filled in and annotations are part of the text, as they are drawn too.
"""

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import pypdfium2
import pypdfium2.raw as pdfium
from PIL import Image, ImageDraw

from api.documents.text_layers.glyphs import Corners, Glyph, glyphs_of, words_of

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
_ODD = re.compile(r"[^\W\d_]\d+[^\W\d_]|[a-zа-яё][A-ZА-ЯЁ]|[A-Za-z][А-Яа-яЁё]|[А-Яа-яЁё][A-Za-z]")
"""A digit or a capital between letters, or two scripts in one word."""
_ODD_WORDS = 0.15
"""Largest share of words that are odd so."""
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
_VOWEL_LETTERS = frozenset("aeiouyаеиоуыэюяєії")


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
    glyphs = list(glyphs_of(page, width, height))
    if not _is_legible([g for g in glyphs if g and g.text.strip()]):
        return None
    words = list(words_of(glyphs))
    odd = sum(bool(_ODD.search(text)) for text, *_ in words)
    if odd > _ODD_WORDS * len(words):
        return None
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


def _is_legible(glyphs: Sequence[Glyph]) -> bool:
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
