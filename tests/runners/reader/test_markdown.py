from common.messages import Line, Word
from runners.reader.markdown import as_markdown
from runners.reader.read_page import ReadPage


def row(*cells: tuple[int, str]) -> Line:
    """A row of cells, each with its left edge; a letter is 10 pixels wide."""
    words = [
        Word(text=word, box=(left + 10 * at, 0, left + 10 * (at + len(word)), 9), confidence=1)
        for left, cell in cells
        for word, at in ((word, cell.index(word)) for word in cell.split())
    ]
    text = "\t".join(cell for _, cell in cells)
    return Line(text=text, box=(0, 0, 900, 9), confidence=1, words=words)


def page(*blocks: list[Line]) -> ReadPage:
    return ReadPage((900, 900), list(blocks), "en")


def lines(*texts: str) -> list[Line]:
    return [Line(text=text, box=(0, 0, 900, 9), confidence=1) for text in texts]


def test_lines_stay_lines_and_paragraphs_paragraphs() -> None:
    assert as_markdown(page(lines("One", "Two"), lines("Three"))) == "One\\\nTwo\n\nThree"


def test_rows_of_cells_are_a_table_whose_empty_cells_stay_empty() -> None:
    read = page(
        [
            row((0, "Stock")),
            row((0, "No"), (100, "Office paper"), (300, "Sum")),
            row((10, "1"), (100, "Pen"), (290, "0.25")),
            row((100, "Total"), (290, "0.25")),
        ]
    )
    assert as_markdown(read) == (
        "Stock\n\n"
        "| No | Office paper | Sum |\n"
        "| --- | --- | --- |\n"
        "| 1 | Pen | 0.25 |\n"
        "|  | Total | 0.25 |"
    )


def test_cells_that_lie_across_columns_stay_in_their_order() -> None:
    read = page(
        [row((0, "A"), (50, "B"), (90, "C")), row((0, "A long cell"), (120, "D"))],
    )
    assert as_markdown(read) == "| A | B | C |\n| --- | --- | --- |\n| A long cell | D |  |"


def test_cells_without_places_stay_in_their_order() -> None:
    assert as_markdown(page(lines("A\tB", "C"))) == "A\tB\n\nC"
    assert as_markdown(page(lines("A\tB", "C\tD"))) == "| A | B |\n| --- | --- |\n| C | D |"


def test_what_markdown_would_take_for_its_own_is_escaped() -> None:
    read = as_markdown(page(lines("1. *Net* a|b", "- #2 [x]")))
    assert read == "1\\. \\*Net\\* a\\|b\\\n\\- \\#2 \\[x\\]"


def test_a_blank_page_is_empty() -> None:
    assert as_markdown(page()) == ""
