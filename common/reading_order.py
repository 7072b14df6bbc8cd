"""Puts the lines of a page into reading order: columns by columns, all else by rows."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from statistics import median

_GUTTER = 1.0
"""Width of the white between two columns, in heights of a line."""
_CELL_GAP = 1.0
"""White between two cells of a row, in heights of a line: words are nearer."""
_PARAGRAPH_GAP = 0.9
"""White between two paragraphs, in heights of a line."""
_BAND_GAP = 1.5
"""White across the page that ends columns, in heights of a line."""
_MUCH_WIDER = 2.0
"""How many times wider than between lines the white between paragraphs or bands is."""
_COLUMN_LINES = 3
"""Fewest lines of a column."""
_COLUMN_CHARACTERS = 15
"""Fewest characters of a column's median line: cells of tables are shorter."""
_FIRST_LINES = 24
"""Lines after which columns must have begun."""
_FILLED = 0.75
"""Share of a column's width that its median line fills."""


@dataclass(frozen=True)
class Placed:
    """A line, and where it stands on the page once that is straight."""

    number: int
    left: float
    top: float
    right: float
    bottom: float
    characters: int

    @property
    def height(self) -> float:
        return self.bottom - self.top

    @property
    def middle(self) -> float:
        return (self.top + self.bottom) / 2


Row = list[Placed]
"""Lines beside each other, from left to right."""


def in_reading_order(lines: list[Placed]) -> list[list[Row]]:
    """The paragraphs of the page, each of rows; rows of tables have several lines."""
    return [
        paragraph
        for band in _bands(lines)
        for column in _columns(band)
        for paragraph in _paragraphs(_rows(column))
    ]


def is_cell_gap(left: Placed, right: Placed) -> bool:
    """Whether two lines of a row are two cells, not two words."""
    return right.left - left.right > _CELL_GAP * min(left.height, right.height)


def _bands(lines: list[Placed]) -> Iterator[list[Placed]]:
    """The lines, divided where there is much white across the whole page."""
    waiting = sorted(lines, key=lambda line: line.top)
    if not waiting:
        return
    height = median(line.height for line in waiting)
    band: list[Placed] = []
    bottom = waiting[0].top
    for line in waiting:
        if band and line.top - bottom > _BAND_GAP * height:
            yield band
            band = []
        band.append(line)
        bottom = max(bottom, line.bottom)
    yield band


def _columns(lines: list[Placed]) -> Iterator[list[Placed]]:
    """The lines, divided into what is read one after the other: columns, and what is between."""
    waiting = sorted(lines, key=lambda line: line.middle)
    plain: list[Placed] = []
    while waiting:
        columns = _columns_from(waiting)
        if columns:
            if plain:
                yield plain
                plain = []
            yield from columns
            taken = {line.number for column in columns for line in column}
            waiting = [line for line in waiting if line.number not in taken]
        else:
            plain.append(waiting.pop(0))
    if plain:
        yield plain


def _columns_from(lines: list[Placed]) -> list[list[Placed]]:
    """The columns that the first line begins, from left to right; empty if it begins none."""
    height = median(line.height for line in lines)
    best: list[list[Placed]] = []
    stacks: list[list[Placed]] = []
    for tried, line in enumerate(lines):
        if tried == _FIRST_LINES and not best:
            break
        near = [s for s in stacks if _overlap(s, line, _GUTTER * height)]
        others = [s for s in stacks if not any(s is stack for stack in near)]
        stacks = [*others, [line, *(other for stack in near for other in stack)]]
        if len(stacks) < 2:
            if len(near) > 1:
                break  # this line lies across the columns
            continue
        if all(map(_is_column, stacks)):
            best = stacks
        elif best and len(near) > 1:
            break
    return sorted(
        (sorted(stack, key=lambda line: line.middle) for stack in best),
        key=lambda stack: min(line.left for line in stack),
    )


def _overlap(stack: list[Placed], line: Placed, margin: float) -> bool:
    left = min(other.left for other in stack)
    right = max(other.right for other in stack)
    return line.left < right + margin and left < line.right + margin


def _is_column(lines: list[Placed]) -> bool:
    """Whether these are lines of flowing text under one another."""
    width = max(line.right for line in lines) - min(line.left for line in lines)
    return (
        len(lines) >= _COLUMN_LINES
        and median(line.characters for line in lines) >= _COLUMN_CHARACTERS
        and median(line.right - line.left for line in lines) >= _FILLED * width
    )


def _rows(lines: list[Placed]) -> list[Row]:
    rows: list[Row] = []
    for line in sorted(lines, key=lambda line: line.middle):
        row = rows[-1] if rows else []
        if row and _beside(row, line):
            row.append(line)
        else:
            rows.append([line])
    return [sorted(row, key=lambda line: line.left) for row in rows]


def _beside(row: Row, line: Placed) -> bool:
    """Whether the line stands in the row, beside its other lines."""
    nearest = min(row, key=lambda other: max(other.left - line.right, line.left - other.right))
    return abs(nearest.middle - line.middle) < 0.5 * min(nearest.height, line.height)


def _paragraphs(rows: list[Row]) -> Iterator[list[Row]]:
    """The rows, divided where the white between two is much wider than between most."""
    gaps = [
        min(line.top for line in below) - max(line.bottom for line in above)
        for above, below in pairwise(rows)
    ]
    usual = median(gaps) if gaps else 0.0
    paragraph: list[Row] = []
    for row, gap in zip(rows, [0.0, *gaps], strict=True):
        height = median(line.height for line in row)
        if gap > max(_PARAGRAPH_GAP * height, _MUCH_WIDER * usual):
            yield paragraph
            paragraph = []
        paragraph.append(row)
    yield paragraph
