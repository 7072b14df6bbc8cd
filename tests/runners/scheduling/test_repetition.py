import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runners.scheduling.repetition import LONGEST_PERIOD, Repetition


def watch(tokens: list[int]) -> tuple[int, int | None]:
    """How many tokens were taken, and how many of them a loop leaves."""
    repetition = Repetition(len(tokens))
    for taken, token in enumerate(tokens, start=1):
        repetition.add(token)
        kept = repetition.find(at_end=taken == len(tokens))
        if kept is not None:
            return taken, kept
    return len(tokens), None


def kept_of(tokens: list[int]) -> int | None:
    """The same, by looking at each token for each period in turn."""
    run = [0] * (LONGEST_PERIOD + 1)
    for place, token in enumerate(tokens):
        for period in range(1, LONGEST_PERIOD + 1):
            is_equal = place >= period and tokens[place - period] == token
            run[period] = run[period] + 1 if is_equal else 0
            repeats = min(max(math.ceil(512 / period), 3), 128)
            if run[period] == (repeats - 1) * period:
                return place + 1 - run[period]
    return None


@pytest.mark.parametrize("period", [1, 2, 3, 7, 40, 200, LONGEST_PERIOD])
def test_a_loop_is_cut_to_one_period(period):
    start, loop = list(range(1000, 1050)), list(range(period))
    taken, kept = watch(start + loop * (2000 // period))
    assert kept == len(start) + period
    late = 15  # tokens are compared in blocks of 16
    assert taken <= len(start) + max(512, 3 * period) + period + late


def test_a_loop_that_repeats_a_token_within_itself_is_cut_to_its_own_period():
    assert watch([5, 5, 6, 6, 5, 7] * 200)[1] == 6


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


@settings(max_examples=20, deadline=None, derandomize=True)
@given(
    start=st.lists(st.integers(0, 2), max_size=40),
    loop=st.lists(st.integers(0, 2), min_size=1, max_size=5),
    repeats=st.integers(100, 140),
    rest=st.lists(st.integers(0, 2), max_size=40),
)
def test_a_loop_is_cut_where_it_would_be_if_each_token_were_looked_at(start, loop, repeats, rest):
    tokens = start + loop * repeats + rest
    assert watch(tokens)[1] == kept_of(tokens)


def test_a_loop_counts_with_the_last_token_of_a_row():
    assert watch([7] * 128) == (128, 1)
    assert watch([7] * 127) == (127, None)
