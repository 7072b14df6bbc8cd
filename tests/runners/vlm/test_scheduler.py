"""The scheduler alone: no model, no cache, no device."""

from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.deadline import Deadline
from runners.vlm.row import Row
from runners.vlm.scheduler import MAX_SLOWDOWN, Scheduler


@dataclass(frozen=True)
class Encoded:
    """Has what the scheduler asks of an encoded request."""

    length: int


def make_row(length: int = 10, new: int = 5, seconds: float = 600) -> Row:
    return Row(Encoded(length), new, Deadline(seconds), sampling=None)


def make_scheduler(rows: int = 0, step_target: float = 60.0, fits=None) -> Scheduler:
    """With so many rows running."""
    scheduler = Scheduler(step_target, fits or (lambda rows, columns: True))
    for row in [make_row() for _ in range(rows)]:
        scheduler.add(row)
        assert scheduler.admit() is row
        scheduler.join(row)
    return scheduler


def test_rows_are_admitted_in_the_order_in_which_they_came():
    scheduler, rows = make_scheduler(), [make_row() for _ in range(3)]
    for row in rows:
        scheduler.add(row)
    for slot, row in enumerate(rows):
        assert scheduler.admit() is row
        assert scheduler.join(row) == slot
    assert scheduler.running == rows
    assert scheduler.admit() is None


def test_nothing_is_admitted_from_an_empty_queue():
    scheduler = make_scheduler()
    assert scheduler.is_idle
    assert scheduler.admit() is None


def test_the_cache_is_asked_for_all_rows_at_their_longest():
    asked = []
    scheduler = make_scheduler(fits=lambda rows, columns: asked.append((rows, columns)) or True)
    for row in (make_row(10, 5), make_row(100, 50), make_row(20, 1)):
        scheduler.add(row)
        scheduler.join(scheduler.admit())
    assert asked == [(2, 150), (3, 150)]


def test_a_row_waits_while_it_does_not_fit_and_so_do_those_behind_it():
    scheduler = make_scheduler(rows=1, fits=lambda rows, columns: columns < 100)
    large, small = make_row(100), make_row(1)
    scheduler.add(large)
    scheduler.add(small)
    assert scheduler.admit() is None
    assert list(scheduler.waiting) == [large, small]
    scheduler.leave(0)
    assert scheduler.admit() is large  # a row that runs alone always fits


def test_no_row_is_admitted_while_steps_are_slow():
    scheduler = make_scheduler(rows=1, step_target=0.1)
    scheduler.add(make_row())
    scheduler.record_step(0.001)
    for _ in range(20):
        scheduler.record_step(0.2)
    assert scheduler.admit() is None
    for _ in range(20):
        scheduler.record_step(0.05)
    assert scheduler.admit() is not None


@pytest.mark.parametrize(("slowdown", "admitted"), [(0.9, True), (1.1, False)])
def test_on_a_slow_device_a_step_may_take_a_multiple_of_the_fastest(slowdown, admitted):
    scheduler = make_scheduler(rows=1, step_target=0.1)
    scheduler.record_step(1.0)
    for _ in range(50):
        scheduler.record_step(slowdown * MAX_SLOWDOWN)
    scheduler.add(make_row())
    assert (scheduler.admit() is not None) == admitted


def test_the_last_row_moves_into_the_slot_of_one_that_leaves():
    scheduler = make_scheduler(rows=4)
    first, second, third, fourth = scheduler.running
    assert scheduler.leave(1) is second
    assert scheduler.running == [first, fourth, third]
    assert scheduler.leave(2) is third
    assert scheduler.running == [first, fourth]


def test_cancelled_rows_are_dropped_wherever_they_are():
    scheduler = make_scheduler(rows=4)
    running, waiting = list(scheduler.running), [make_row() for _ in range(3)]
    for row in waiting:
        scheduler.add(row)
    for row in (running[0], running[2], waiting[1]):
        row.future.cancel()
    dropped = scheduler.drop_dead_rows()
    assert (dropped.cancelled_slots, dropped.cancelled_waiting, dropped.late) == ([2, 0], 1, [])
    assert scheduler.running == [running[3], running[1]]
    assert list(scheduler.waiting) == [waiting[0], waiting[2]]


def test_a_deadline_drops_a_row_that_waits_but_none_that_runs():
    scheduler = make_scheduler(rows=1)
    scheduler.running[0].deadline = Deadline(0)
    late, other = make_row(seconds=0), make_row()
    scheduler.add(late)
    scheduler.add(other)
    dropped = scheduler.drop_dead_rows()
    assert (dropped.cancelled_slots, dropped.late) == ([], [late])
    assert list(scheduler.waiting) == [other]


def test_where_memory_ran_out_in_a_prefill_the_row_is_next_and_no_more_rows_run_than_then():
    scheduler = make_scheduler(rows=2)
    row, behind = make_row(), make_row()
    scheduler.add(row)
    scheduler.add(behind)
    assert scheduler.postpone(scheduler.admit())
    assert list(scheduler.waiting) == [row, behind]
    assert scheduler.admit() is None
    scheduler.leave(0)
    scheduler.join(scheduler.admit())
    assert row in scheduler.running
    assert scheduler.admit() is None


def test_a_row_that_is_alone_is_postponed_once():
    scheduler, row = make_scheduler(), make_row()
    scheduler.add(row)
    assert scheduler.postpone(scheduler.admit())
    assert not scheduler.postpone(scheduler.admit())
    assert scheduler.is_idle


def test_where_memory_ran_out_in_a_step_the_newest_row_leaves_and_its_place_is_gone():
    scheduler = make_scheduler(rows=3)
    oldest, newest, middle = scheduler.running
    oldest.started, newest.started, middle.started = 1.0, 3.0, 2.0
    assert scheduler.drop_newest() == (1, newest)
    assert scheduler.running == [oldest, middle]
    scheduler.add(make_row())
    assert scheduler.admit() is None
    scheduler.leave(0)
    assert scheduler.admit() is not None


def test_an_idle_scheduler_forgets_that_memory_ran_out():
    scheduler = make_scheduler(rows=2)
    scheduler.drop_newest()
    scheduler.leave(0)
    for _ in range(3):
        scheduler.add(make_row())
    assert [scheduler.join(scheduler.admit()) for _ in range(3)] == [0, 1, 2]


def test_it_is_cleared_of_all_rows():
    scheduler = make_scheduler(rows=2)
    waiting = make_row()
    running = list(scheduler.running)
    scheduler.add(waiting)
    assert scheduler.clear() == [*running, waiting]
    assert scheduler.is_idle


@settings(derandomize=True, deadline=None)
@given(
    moves=st.lists(
        st.one_of(
            st.tuples(st.just("add"), st.integers(1, 50)),
            st.tuples(st.just("admit"), st.just(0)),
            st.tuples(st.just("leave"), st.integers(0, 9)),
            st.tuples(st.just("cancel"), st.integers(0, 9)),
            st.tuples(st.just("postpone"), st.just(0)),
            st.tuples(st.just("drop_newest"), st.just(0)),
        ),
        max_size=60,
    ),
    budget=st.integers(0, 200),
)
def test_no_row_is_lost_none_runs_twice_and_the_budget_holds(moves, budget):
    scheduler = make_scheduler(fits=lambda rows, columns: rows * columns <= budget)
    there: list[Row] = []
    for move, number in moves:
        if move == "add":
            there.append(make_row(number))
            scheduler.add(there[-1])
        elif move == "admit" and (row := scheduler.admit()):
            scheduler.join(row)
            columns = max(row.max_columns for row in scheduler.running)
            used = len(scheduler.running) * columns
            assert used <= budget or len(scheduler.running) == 1
        elif move == "postpone" and (row := scheduler.admit()):
            if not scheduler.postpone(row):
                there.remove(row)
        elif move == "cancel" and there:
            there.pop(number % len(there)).future.cancel()
            scheduler.drop_dead_rows()
        elif move == "leave" and scheduler.running:
            there.remove(scheduler.leave(number % len(scheduler.running)))
        elif move == "drop_newest" and scheduler.running:
            there.remove(scheduler.drop_newest()[1])
        held = [*scheduler.running, *scheduler.waiting]
        assert len(held) == len(there)
        assert set(held) == set(there)
