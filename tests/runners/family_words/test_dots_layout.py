import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.messages import Block
from runners.family_words.dots_layout import read_layout, to_markdown

PAGE = (1000, 1400)
SCALE = (1000 / 280, 1400 / 560)
ELEMENTS = [
    {"bbox": [28, 28, 252, 56], "category": "Title", "text": "Report {draft}"},
    {"bbox": [28, 84, 252, 140], "category": "Text", "text": 'A "quoted" line\nand [one] more.'},
    {"bbox": [28, 168, 252, 280], "category": "Picture"},
    {"bbox": [28, 300, 252, 330], "category": "Formula", "text": r"\frac{a}{b}"},
    {
        "bbox": [28, 336, 252, 532],
        "category": "Table",
        "text": "<table><tr><td>1</td></tr></table>",
    },
]


def block(category: str, text: str) -> Block:
    return Block(category=category, box=(0, 0, 1, 1), text=text)


def test_a_whole_answer_becomes_blocks_in_its_own_order_and_their_markdown() -> None:
    layout = read_layout(json.dumps(ELEMENTS), SCALE, PAGE)
    assert [b.category for b in layout.blocks] == [e["category"] for e in ELEMENTS]
    assert layout.blocks[3].text == r"\frac{a}{b}"
    assert layout.text == (
        "# Report {draft}\n\n"
        'A "quoted" line\nand [one] more.\n\n'
        r"$$\frac{a}{b}$$"
        "\n\n<table><tr><td>1</td></tr></table>"
    )
    assert not layout.truncated


@given(st.integers(0, len(json.dumps(ELEMENTS)) - 1))
def test_an_answer_that_broke_off_keeps_every_whole_element(length: int) -> None:
    answer = json.dumps(ELEMENTS)
    ends = [answer.index(json.dumps(e)) + len(json.dumps(e)) for e in ELEMENTS]
    layout = read_layout(answer[:length], SCALE, PAGE)
    whole = sum(end <= length for end in ends)
    assert layout.blocks == read_layout(answer, SCALE, PAGE).blocks[:whole]
    assert layout.text == to_markdown(layout.blocks)
    assert layout.truncated == (length > 0)


@pytest.mark.parametrize(
    "broken",
    [
        r'{"bbox": [0, 0, 9, 9], "category": "Formula", "text": "\frac{1}{\x}"}',
        '{"bbox": [0, 0, 9], "category": "Text", "text": "three numbers"}',
        '{"bbox": [0, 0, NaN, 9], "category": "Text", "text": "no number"}',
        '{"bbox": [0, 0, 1e999, 9], "category": "Text", "text": "no end"}',
        '{"bbox": [0, 0, 9, 9], "text": "no category"}',
        '{"bbox": [0, 0, 9, ' + "9" * 5000 + '], "category": "Text"}',
    ],
)
def test_a_broken_element_costs_itself_only(broken: str) -> None:
    first, last = map(json.dumps, ELEMENTS[:2])
    layout = read_layout(f"[{first}, {broken}, {last}]", SCALE, PAGE)
    assert [b.category for b in layout.blocks] == ["Title", "Text"]
    assert layout.truncated


def test_line_breaks_inside_strings_are_read() -> None:
    answer = '[{"bbox": [0, 0, 9, 9], "category": "Text", "text": "one\ntwo"}]'
    layout = read_layout(answer, SCALE, PAGE)
    assert layout.text == "one\ntwo"
    assert not layout.truncated


def test_a_single_object_is_a_page_of_one_block() -> None:
    layout = read_layout(json.dumps(ELEMENTS[0]), SCALE, PAGE)
    assert len(layout.blocks) == 1
    assert not layout.truncated


@pytest.mark.parametrize("answer", ["[]", "", "  \n"])
def test_an_empty_page_has_no_blocks_and_no_text(answer: str) -> None:
    layout = read_layout(answer, SCALE, PAGE)
    assert (layout.text, layout.blocks, layout.truncated) == ("", [], False)


@pytest.mark.parametrize("answer", ["Plain words.", "[1] Smith, 2020.", "42", "a {b} c"])
def test_an_answer_that_is_no_json_is_given_as_it_is(answer: str) -> None:
    layout = read_layout(answer, SCALE, PAGE)
    assert (layout.text, layout.blocks, layout.truncated) == (answer, [], True)


@given(st.text() | st.text(alphabet='{}[]",:1e-\\ abox', max_size=60))
def test_whatever_the_model_writes_is_read_without_an_error(answer: str) -> None:
    read_layout(answer, SCALE, PAGE)


def test_nesting_without_end_is_read_without_an_error() -> None:
    layout = read_layout('{"a":' * 3000, SCALE, PAGE)
    assert layout.truncated
    assert layout.text == ""


@pytest.mark.parametrize(
    ("bbox", "box"),
    [
        ([28, 56, 140, 280], (100, 140, 500, 700)),
        ([0, 0, 280, 560], (0, 0, 1000, 1400)),
        ([-5, -5, 999, 999], (0, 0, 1000, 1400)),
        ([140, 280, 28, 56], (100, 140, 500, 700)),
        ([28.1, 56, 140, 280], (100, 140, 500, 700)),
    ],
)
def test_boxes_are_whole_pixels_of_the_page_and_inside_it(
    bbox: list[float], box: tuple[int, int, int, int]
) -> None:
    answer = json.dumps([{"bbox": bbox, "category": "Text", "text": "x"}])
    assert read_layout(answer, SCALE, PAGE).blocks[0].box == box


@pytest.mark.parametrize(
    ("category", "text", "markdown"),
    [
        ("Title", "Name", "# Name"),
        ("Title", "## Name", "## Name"),
        ("Section-header", "Part", "## Part"),
        ("Section-header", "### Part", "### Part"),
        ("Formula", "x^2", "$$x^2$$"),
        ("Formula", "$$x^2$$", "$$x^2$$"),
        ("Formula", r"\[x^2\]", r"\[x^2\]"),
        ("List-item", "- one", "- one"),
        ("Picture", "a cat", ""),
        ("Title", "", ""),
        ("Page-footer", "3", "3"),
    ],
)
def test_markdown_of_each_category(category: str, text: str, markdown: str) -> None:
    assert to_markdown([block(category, text)]) == markdown
