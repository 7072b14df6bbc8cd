"""Takes the characters and words of a PDF's page from PDFium, with their places in pixels."""

import ctypes
import math
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import pypdfium2
import pypdfium2.raw as pdfium

_PRECISION = 64
"""PDFium tells places in whole pixels; they are asked for on a page so many times as large."""
_HYPHENS = {"\x02", "\ufffe", "\xad"}
"""What PDFium says for a hyphen at the end of a line, and the soft hyphen."""

Corners = tuple[float, float, float, float]
"""Left, top, right, bottom in pixels of the page."""


@dataclass(frozen=True)
class Glyph:
    """A character as it lies on the page."""

    text: str
    box: Corners
    """Around its ink."""
    room: Corners
    """As high as the font's highest and lowest letters."""
    has_meaning: bool
    is_upright: bool


def glyphs_of(page: pypdfium2.PdfPage, width: int, height: int) -> Iterator[Glyph | None]:
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
            yield Glyph(
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


def words_of(glyphs: Sequence[Glyph | None]) -> Iterator[tuple[str, Corners, Corners]]:
    """Text, box and room of each word."""
    word: list[Glyph] = []
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
