import pytest

from runners.vlm.tokens.repetition import LONGEST_PERIOD, Repetition


def watch(tokens: list[int]) -> tuple[int, int | None]:
    """How many tokens were taken, and how many of them a loop leaves."""
    repetition = Repetition(len(tokens))
    for taken, token in enumerate(tokens, start=1):
        kept = repetition.add(token)
        if kept is not None:
            return taken, kept
    return len(tokens), None


@pytest.mark.parametrize("period", [1, 2, 3, 7, 40, 200, LONGEST_PERIOD])
def test_a_loop_is_cut_to_one_period(period):
    start, loop = list(range(1000, 1050)), list(range(period))
    taken, kept = watch(start + loop * (2000 // period))
    assert kept == len(start) + period
    assert taken <= len(start) + max(512, 3 * period) + period


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
