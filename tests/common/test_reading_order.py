from common.reading_order import Placed, in_reading_order, is_cell_gap

PROSE = "a line of flowing text"


def place(*lines: tuple[float, float, str], pitch: float = 30) -> list[Placed]:
    """Lines by left end, row and text, 20 high; a character is 10 wide."""
    return [
        Placed(number, left, row * pitch, left + 10 * len(text), row * pitch + 20, len(text))
        for number, (left, row, text) in enumerate(lines)
    ]


def order(lines: list[Placed]) -> list[list[list[int]]]:
    return [[[line.number for line in row] for row in rows] for rows in in_reading_order(lines)]


def test_lines_are_read_from_top_to_bottom() -> None:
    assert order(place((0, 1, PROSE), (0, 0, PROSE), (0, 2, PROSE))) == [[[1], [0], [2]]]
    assert order([]) == []


def test_a_table_is_read_by_rows() -> None:
    cells = [(x, row, "cell") for x in (0, 200, 400) for row in range(4)]
    assert order(place(*cells)) == [[[n, n + 4, n + 8] for n in range(4)]]


def test_prices_stay_with_their_names() -> None:
    names = [(0.0, row, "a dish with a long name") for row in range(3)]
    prices = [(600.0, row, "180.00") for row in range(3)]
    assert order(place(*names, *prices)) == [[[0, 3], [1, 4], [2, 5]]]


def test_flowing_text_is_read_column_by_column() -> None:
    columns = [(x, row, PROSE) for x in (0, 300) for row in range(4)]
    rows = [row for rows in order(place(*columns)) for row in rows]
    assert rows == [[n] for n in range(8)]


def test_a_line_across_the_page_comes_before_or_after_its_columns() -> None:
    columns = [(x, row, PROSE) for x in (0, 300) for row in (1, 2, 3)]
    lines = place(*columns, (0, 0, PROSE * 2 + " wide"), (0, 4, PROSE * 2 + " wide"))
    rows = [row for rows in order(lines) for row in rows]
    assert rows == [[6], [0], [1], [2], [3], [4], [5], [7]]


def test_white_across_the_page_ends_columns() -> None:
    cards = [(x, row, PROSE) for row0 in (0, 6) for x in (0, 300) for row in range(row0, row0 + 3)]
    rows = [row for rows in order(place(*cards)) for row in rows]
    assert rows == [[n] for n in range(12)]


def test_wide_white_parts_paragraphs() -> None:
    lines = place((0, 0, PROSE), (0, 1, PROSE), (0, 2.8, PROSE), (0, 3.8, PROSE))
    assert order(lines) == [[[0], [1]], [[2], [3]]]
    evenly = place((0, 0, PROSE), (0, 1, PROSE), (0, 2, PROSE), pitch=45)
    assert len(order(evenly)) == 1


def test_cells_are_further_apart_than_words() -> None:
    word, next_word, cell = place((0, 0, "word"), (52, 0, "word"), (140, 0, "cell"))
    assert not is_cell_gap(word, next_word)
    assert is_cell_gap(next_word, cell)
