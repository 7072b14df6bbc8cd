"""Words of a text layer become lines and paragraphs, in reading order."""

from api.documents.text_layers.arranging import TextLayer, arrange, page_text
from tests.support.pages import ENGLISH

LETTER = 10
"""Width and height of a character, pixels."""


def at(x: float, y: float, text: str) -> list[tuple[str, tuple, tuple]]:
    """The words of a text that begins there."""
    words = []
    for word in text.split():
        box = x, y, x + LETTER * len(word), y + LETTER
        words.append((word, box, (box[0], y - 2, box[2], y + LETTER + 2)))
        x = box[2] + LETTER / 2
    return words


def text_of(*words: list) -> str:
    layer = TextLayer(size=(900, 900), words=[word for part in words for word in part])
    return arrange(layer).text


def test_words_become_lines_and_lines_paragraphs() -> None:
    lines = [at(20, 20 + 16 * n, line) for n, line in enumerate(ENGLISH[:3])]
    apart = at(20, 200, ENGLISH[3])
    assert text_of(*lines, apart) == "\n".join(ENGLISH[:3]) + "\n\n" + ENGLISH[3]


def test_the_cells_of_a_row_are_parted_by_tabs() -> None:
    table = [("Item", "Price"), ("Rope", "12.50"), ("Two boats", "3")]
    words = [
        at(20 + 300 * c, 20 + 16 * r, t) for r, row in enumerate(table) for c, t in enumerate(row)
    ]
    assert text_of(*words) == "Item\tPrice\nRope\t12.50\nTwo boats\t3"


def test_cells_that_the_file_has_by_columns_are_read_by_rows() -> None:
    rows = [at(20, 20, "Item"), at(20, 36, "Rope"), at(320, 20, "Price"), at(320, 36, "9")]
    assert text_of(*rows) == "Item\tPrice\nRope\t9"


def test_columns_of_flowing_text_are_read_one_after_the_other() -> None:
    left = [f"{n} the first column goes on" for n in range(1, 6)]
    right = [f"{n} and the second column too" for n in range(1, 6)]
    words = [
        at(x, 20 + 16 * n, line)
        for n, pair in enumerate(zip(left, right, strict=True))
        for x, line in zip((20, 420), pair, strict=True)
    ]
    assert text_of(*words).split() == " ".join([*left, *right]).split()


def test_a_line_is_as_large_as_its_ink_in_whole_pixels() -> None:
    layer = TextLayer(size=(900, 900), words=at(20.5, 30.2, "two words"))
    [line] = arrange(layer).lines
    assert (line.text, line.box, line.confidence) == ("two words", (20, 30, 106, 41), 1.0)


def test_what_the_program_answers_is_understood() -> None:
    assert page_text(b"null") is None
    found = TextLayer(size=(90, 80), words=at(1, 2, "a b")).model_dump_json().encode()
    text = page_text(found)
    assert text is not None
    assert (text.size, text.text) == ((90, 80), "a b")
