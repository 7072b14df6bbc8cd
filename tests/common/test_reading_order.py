"""The order in which the lines of a page are read, whoever found them."""

from common.reading_order import Placed, in_reading_order, is_cell_gap

LONG = 20
"""Characters of a line of flowing text."""


def line(number: int, left: float, top: float, characters: int = LONG) -> Placed:
    return Placed(number, left, top, left + 10 * characters, top + 16, characters)


def order(*lines: Placed) -> list[list[list[int]]]:
    """The numbers of the lines in each row of each paragraph."""
    return [[[p.number for p in row] for row in rows] for rows in in_reading_order(list(lines))]


def test_lines_are_read_from_top_to_bottom() -> None:
    assert order(line(2, 10, 40), line(1, 10, 20)) == [[[1], [2]]]


def test_much_white_parts_paragraphs() -> None:
    lines = [line(n, 10, 20 * n) for n in (1, 2, 3)]
    assert order(*lines, line(4, 10, 160)) == [[[1], [2], [3]], [[4]]]


def test_columns_are_read_one_after_the_other() -> None:
    left = [line(n, 10, 20 * n) for n in range(1, 5)]
    right = [line(10 + n, 300, 20 * n) for n in range(1, 5)]
    found = [number for rows in order(*left, *right) for row in rows for number in row]
    assert found == [1, 2, 3, 4, 11, 12, 13, 14]


def test_tables_are_read_by_rows() -> None:
    rows = [(line(10 * n, 10, 20 * n, 5), line(10 * n + 1, 160, 20 * n, 5)) for n in (1, 2, 3)]
    cells = [cell for row in rows for cell in row]
    assert order(*cells) == [[[10, 11], [20, 21], [30, 31]]]


def test_a_wide_gap_is_one_between_cells() -> None:
    assert is_cell_gap(line(1, 10, 20, 5), line(2, 90, 20, 5))
    assert not is_cell_gap(line(1, 10, 20, 5), line(2, 65, 20, 5))


def test_a_page_without_lines_has_no_paragraphs() -> None:
    assert order() == []
