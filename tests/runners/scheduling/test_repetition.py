import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runners.scheduling.repetition import LONGEST_PERIOD, TABLE_ROWS, Repetition, is_table_row

BLOCK = 16
"""Tokens that are compared at once."""


def prose(tokens: list[int]) -> str:
    """The text of tokens of which none ends a line."""
    return "x" * len(tokens)


def characters(tokens: list[int]) -> str:
    return "".join(map(chr, tokens))


def watch(tokens: list[int], text=prose, cut: bool = True) -> tuple[int, int | None]:
    """How many tokens were taken, and how many of them remain if a loop was found.

    cut: whether the row is cut off after its last token.
    """
    repetition = Repetition(len(tokens))
    for taken, token in enumerate(tokens, start=1):
        repetition.add(token)
        if repetition.is_endless(text, is_cut=cut and taken == len(tokens)):
            return taken, repetition.shown
    return len(tokens), None


def shown_of(tokens: list[int]) -> list[int]:
    """After how many tokens how many are shown."""
    repetition, shown = Repetition(len(tokens)), []
    for token in tokens:
        repetition.add(token)
        if repetition.is_endless(prose, is_cut=False):
            break
        shown.append(repetition.shown)
    return shown


def slowly_watched(tokens: list[int]) -> tuple[list[int], int | None]:
    """The same, and where the loop is found, by looking at each token for each period in turn."""
    run = [0] * (LONGEST_PERIOD + 1)
    shown, holds = [0], False
    for place, token in enumerate(tokens):
        made = place + 1
        for period in range(1, LONGEST_PERIOD + 1):
            is_equal = place >= period and tokens[place - period] == token
            run[period] = run[period] + 1 if is_equal else 0
        if made % BLOCK == 0:
            beyond = max(run[period] - max(2 * period, 32) for period in range(1, len(run)))
            holds = beyond >= 0
            if any(
                run[period] >= (min(max(math.ceil(512 / period), 3), 128) - 1) * period
                for period in range(1, len(run))
            ):
                return shown[1:], made
            shown.append(max(shown[-1], made - max(beyond, 0)))
        else:
            shown.append(shown[-1] if holds else made)
    return shown[1:], None


def rows(text: str, count: int) -> list[int]:
    return list(map(ord, text * count))


@pytest.mark.parametrize("period", [1, 2, 3, 7, 40, 200, LONGEST_PERIOD])
def test_a_loop_ends_and_little_of_it_remains(period):
    start, loop = list(range(1000, 1050)), list(range(period))
    taken, kept = watch(start + loop * (2000 // period))
    assert kept is not None
    # At least twice, so that it shows what repeats; tokens are compared in blocks.
    assert len(start) + 2 * period <= kept <= len(start) + max(3 * period, 32 + period) + BLOCK
    assert taken <= len(start) + max(512, 3 * period) + period + BLOCK


@pytest.mark.parametrize(
    "page",
    [
        pytest.param([token for line in range(60) for token in (line, *[9] * 60)], id="leaders"),
        pytest.param([1, 2] * 100, id="a row of a hundred empty cells"),
        pytest.param(([1, 2] * 12 + [3]) * 20, id="twenty equal rows of a table"),
        pytest.param(
            [t for row in range(90) for t in (1, 2, 1, 2, 100 + row, 3)], id="numbered rows"
        ),
        pytest.param(list(range(200)) * 2, id="a paragraph twice"),
    ],
)
def test_what_a_page_repeats_is_no_loop(page):
    assert watch(page) == (len(page), None)


ROWS = [
    "|0|\n",
    "| 0.00 | 0.00 |\n",
    "0.00 0.00 0.00 0.00 0.00\n",
    "<tr><td></td><td>no</td></tr>",
    "Widget & 12 & yes \\\\",
    "\\n| Amount | none |",
]


@pytest.mark.parametrize("row", ROWS)
def test_equal_rows_of_a_table_are_kept_with_what_follows_them(row):
    page = rows("Totals\n", 1) + rows(row, 150) + rows("The end of the page.", 1)
    assert watch(page, characters) == (len(page), None)


@pytest.mark.parametrize("row", ROWS)
def test_rows_without_end_are_a_loop_after_more_than_a_page_holds(row):
    start = rows("Totals\n", 1)
    taken, kept = watch(start + rows(row, 2 * TABLE_ROWS), characters)
    assert len(start) + TABLE_ROWS * len(row) <= taken
    assert taken <= len(start) + (TABLE_ROWS + 1) * len(row) + BLOCK
    assert kept is not None
    assert len(start) + 2 * len(row) <= kept <= len(start) + max(3 * len(row), 64) + BLOCK


def test_rows_that_are_cut_off_are_a_loop_sooner():
    table = rows("| 0.00 |\n", 100)
    assert watch(table, characters, cut=False) == (len(table), None)
    taken, kept = watch(table, characters)
    assert taken == len(table)
    assert kept is not None
    assert kept < 64


@pytest.mark.parametrize(
    ("text", "is_row"),
    [
        ("| | | |", False),
        ("\n\n", False),
        ("0 0 0 0", False),
        ("This sentence is said again and again, by Jove.\n", False),
        ("| This sentence is | said again and again, by Jove. |\n", True),
        ("12.50 0.00\n", True),
    ],
)
def test_a_row_of_a_table_ends_and_has_cells_or_few_tokens(text, is_row):
    assert is_table_row(2 * text, len(set(text))) is is_row
    endless = watch(rows(text, 4000 // len(text)), characters)[0]
    assert (endless > 1000) is is_row


def test_what_may_be_a_loop_is_held_back_until_it_is_none():
    page = [*range(1000, 1040), *[7] * 100, *range(2000, 2040)]
    shown = shown_of(page)
    assert shown[:40] == list(range(1, 41))
    assert max(shown[:140]) < 40 + 33 + BLOCK
    assert shown[-1] == len(page)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    start=st.lists(st.integers(0, 2), max_size=40),
    loop=st.lists(st.integers(0, 2), min_size=1, max_size=5),
    repeats=st.integers(10, 140),
    rest=st.lists(st.integers(0, 2), max_size=40),
    again=st.integers(0, 60),
)
def test_a_loop_is_found_where_it_would_be_if_each_token_were_looked_at(
    start, loop, repeats, rest, again
):
    tokens = start + loop * repeats + rest + [0, 1] * again
    shown, found = slowly_watched(tokens)
    taken, _ = watch(tokens, cut=False)
    assert shown_of(tokens) == shown
    assert taken == (found or len(tokens))
    assert shown == sorted(shown)


def test_a_loop_counts_with_the_last_token_of_a_row():
    assert watch([7] * 128) == (128, 47)
    assert watch([7] * 127) == (127, None)
