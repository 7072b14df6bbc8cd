import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runners.scheduling.prefill_budget import PrefillBudget


def make_budget(gap: float = 0.1, most: int = 1000, per_token: float = 0.0) -> PrefillBudget:
    """After so many seconds for each token of a prefill."""
    budget = PrefillBudget(gap, most)
    if per_token:
        budget.record(100, 100 * per_token)
    return budget


def test_while_no_row_is_in_flight_a_prefill_takes_as_much_as_it_can():
    assert make_budget(per_token=1.0).tokens(mean_step=0.01, in_flight=False) == 1000


def test_before_the_first_prefill_was_timed_it_takes_as_much_as_it_can():
    assert make_budget().tokens(mean_step=0.01, in_flight=True) == 1000


def test_rows_in_flight_wait_for_no_more_tokens_than_fit_into_the_gap_beside_a_step():
    budget = make_budget(gap=0.1, per_token=0.001)
    assert budget.tokens(mean_step=0.01, in_flight=True) == pytest.approx(70, abs=1)


def test_where_steps_are_slow_a_prefill_may_take_two_of_them():
    budget = make_budget(gap=0.1, per_token=0.001)
    assert budget.tokens(mean_step=0.2, in_flight=True) == pytest.approx(400, abs=1)


def test_that_a_token_takes_longer_is_learned_from_one_prefill():
    budget = make_budget(gap=0.1, per_token=0.001)
    budget.record(50, 50 * 0.002)
    assert budget.tokens(mean_step=0.0, in_flight=True) == pytest.approx(40, abs=1)


def test_rows_do_not_wait_longer_while_each_prefill_of_a_long_prompt_takes_longer():
    budget, done = make_budget(gap=0.1), 0
    step, first = 0.015, 0.0002
    count, longest = 366, 0.0
    while done < 4000:
        seconds = step + count * (first + 0.00017e-3 * (done + count / 2))
        longest = max(longest, seconds)
        budget.record(count, seconds)
        done += count
        count = budget.tokens(step, in_flight=True)
    assert longest <= 0.1


def test_that_a_token_takes_less_time_is_learned_by_and_by():
    budget = make_budget(gap=0.1, per_token=0.004)
    budget.record(50, 50 * 0.002)
    assert budget.tokens(mean_step=0.0, in_flight=True) < 30
    for _ in range(30):
        budget.record(50, 50 * 0.002)
    assert budget.tokens(mean_step=0.0, in_flight=True) == pytest.approx(40, abs=1)


def test_prefills_of_a_few_tokens_teach_nothing():
    budget = make_budget(gap=0.1, per_token=0.001)
    for _ in range(30):
        budget.record(2, 1.0)
    assert budget.tokens(mean_step=0.0, in_flight=True) == pytest.approx(80, abs=1)


def test_however_slow_the_device_a_prefill_gets_on():
    assert make_budget(per_token=60.0).tokens(mean_step=0.0, in_flight=True) == 16


@settings(derandomize=True, deadline=None)
@given(
    gap=st.floats(0, 10),
    most=st.integers(1, 10_000),
    prefills=st.lists(st.tuples(st.integers(1, 10_000), st.floats(0, 100))),
    mean_step=st.floats(0, 100),
    in_flight=st.booleans(),
)
def test_it_is_always_one_token_at_least_and_never_more_than_most(
    gap, most, prefills, mean_step, in_flight
):
    budget = PrefillBudget(gap, most)
    for tokens, seconds in prefills:
        budget.record(tokens, seconds)
    assert min(16, most) <= budget.tokens(mean_step, in_flight) <= most
