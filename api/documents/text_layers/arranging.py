"""Arranges the words of a page's text layer as a page that was read: in lines and paragraphs."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from pydantic import BaseModel, TypeAdapter

from common.messages import Box, Line, PageText
from common.reading_order import Placed, Row, in_reading_order, is_cell_gap

# As in `glyphs.py`, which is imported only where PDFium runs.
Corners = tuple[float, float, float, float]
"""Left, top, right, bottom in pixels of the page."""


class TextLayer(BaseModel):
    """A sound text layer, as `finding.py` finds it."""

    size: tuple[int, int]
    words: list[tuple[str, Corners, Corners]]
    """Text, box, and the room of the word, which is as high as its font."""


_FOUND: TypeAdapter[TextLayer | None] = TypeAdapter(TextLayer | None)


@dataclass
class _Piece:
    """Words of one line that follow one another without a wide gap."""

    text: str
    box: Corners
    room: Corners


def page_text(found: bytes) -> PageText | None:
    """The text of the layer in the JSON of a `TextLayer`; None for null."""
    layer = _FOUND.validate_json(found)
    return None if layer is None else arrange(layer)


def arrange(layer: TextLayer) -> PageText:
    """The lines and paragraphs of a layer. The cells of a table's row are parted by tabs."""
    pieces = list(_pieces(layer.words))
    placed = [
        Placed(number, *piece.room, characters=len(piece.text))
        for number, piece in enumerate(pieces)
    ]
    paragraphs = in_reading_order(placed) if placed else []
    blocks = [[_line(row, pieces) for row in rows] for rows in paragraphs]
    return PageText(size=layer.size, blocks=blocks)


def _pieces(words: Sequence[tuple[str, Corners, Corners]]) -> Iterator[_Piece]:
    piece: _Piece | None = None
    for text, box, room in words:
        if piece is not None and _continues(piece.room, room):
            piece.text += f" {text}"
            piece.box = _around(piece.box, box)
            piece.room = _around(piece.room, room)
            continue
        if piece is not None:
            yield piece
        piece = _Piece(text, box, room)
    if piece is not None:
        yield piece


def _continues(before: Corners, after: Corners) -> bool:
    """Whether a word stands in the line of those before it, right behind them."""
    left, right = (Placed(0, *room, characters=0) for room in (before, after))
    height = min(left.height, right.height)
    return (
        abs(left.middle - right.middle) < 0.5 * height
        and right.left > left.right - 0.5 * height
        and not is_cell_gap(left, right)
    )


def _line(row: Row, pieces: Sequence[_Piece]) -> Line:
    text = pieces[row[0].number].text
    box = pieces[row[0].number].box
    for before, after in pairwise(row):
        text += ("\t" if is_cell_gap(before, after) else " ") + pieces[after.number].text
        box = _around(box, pieces[after.number].box)
    return Line(text=text, box=_in_pixels(box), confidence=1.0)


def _around(first: Corners, second: Corners) -> Corners:
    return (
        min(first[0], second[0]),
        min(first[1], second[1]),
        max(first[2], second[2]),
        max(first[3], second[3]),
    )


def _in_pixels(box: Corners) -> Box:
    left, top, right, bottom = box
    return max(0, int(left)), max(0, int(top)), int(right) + 1, int(bottom) + 1
