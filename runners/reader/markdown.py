"""Writes the text of a page as Markdown, its tables as tables."""

import re
from collections.abc import Iterator, Sequence
from itertools import groupby

from common.messages import Line
from runners.reader.read_page import ReadPage

_SPECIAL = re.compile(r"[\\`*_\[\]<>#|~&]")
_BEGINS_A_LIST = re.compile(r"^([-+=])|^(\d+)([.)])(?=\s|$)")

Span = tuple[int, int]
"""Left and right, pixels."""


def as_markdown(page: ReadPage) -> str:
    """The page's paragraphs; rows of cells under one another are a table."""
    return "\n\n".join(part for block in page.blocks for part in _parts(block))


def _parts(block: Sequence[Line]) -> Iterator[str]:
    for has_cells, group in groupby(block, lambda line: "\t" in line.text):
        lines = list(group)
        if has_cells and len(lines) > 1:
            yield _table(lines)
        else:
            yield "\\\n".join(_passage(line.text) for line in lines)


def _table(lines: Sequence[Line]) -> str:
    """The first row is the head, as Markdown knows no table without one."""
    rows = [[_literal(cell) for cell in line.text.split("\t")] for line in lines]
    spans = [_spans(line) for line in lines]
    columns = _columns(span for row in spans for span in row)
    if all(len({_at(span, columns) for span in row}) == len(row) > 0 for row in spans):
        places = [[_at(span, columns) for span in row] for row in spans]
    else:  # a cell lies across columns, or it is not known where the cells are
        places = [list(range(len(row))) for row in rows]
    width = 1 + max(place for row in places for place in row)
    cells = [[""] * width for _ in rows]
    for number, (row, columns_of_row) in enumerate(zip(rows, places, strict=True)):
        for cell, place in zip(row, columns_of_row, strict=True):
            cells[number][place] = cell
    cells.insert(1, ["---"] * width)
    return "\n".join(f"| {' | '.join(row)} |" for row in cells)


def _spans(line: Line) -> list[Span]:
    """From where to where each cell of the row is; empty if that is not known."""
    words = list(line.words or ())
    spans: list[Span] = []
    for cell in line.text.split("\t"):
        own = [words.pop(0).box for _ in cell.split() if words]
        if not own:
            return []
        spans.append((own[0][0], own[-1][2]))
    return spans


def _columns(spans: Iterator[Span]) -> list[Span]:
    """What the cells cover: those that lie over one another are a column."""
    columns: list[Span] = []
    for left, right in sorted(spans):
        if columns and left < columns[-1][1]:
            columns[-1] = columns[-1][0], max(columns[-1][1], right)
        else:
            columns.append((left, right))
    return columns


def _at(span: Span, columns: Sequence[Span]) -> int:
    return next(number for number, (left, right) in enumerate(columns) if left <= span[0] < right)


def _passage(text: str) -> str:
    """The text of a line, so that Markdown shows it as it is."""
    return _BEGINS_A_LIST.sub(r"\2\\\1\3", _literal(text))


def _literal(text: str) -> str:
    """The text within a line, so that Markdown shows it as it is."""
    return _SPECIAL.sub(r"\\\g<0>", text)
