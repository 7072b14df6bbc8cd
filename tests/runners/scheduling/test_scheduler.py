"""Which rows the scheduler admits, prefills and drops: no model, no device."""

import pytest

from common.deadline import Deadline
from runners.scheduling.scheduler import MAX_SLOWDOWN, Scheduler
from tests.support.fakes.scheduling import BLOCK, Scheduling, make_row


def test_rows_are_admitted_in_the_order_in_which_they_came():
    scheduler, rows = Scheduling(), [make_row() for _ in range(3)]
    scheduler.put(*rows)
    assert scheduler.prefilling == scheduler.rows == rows
    assert not scheduler.waiting
    assert [row.started for row in rows] == sorted(row.started for row in rows)


def test_nothing_is_admitted_from_an_empty_queue():
    scheduler = Scheduling()
    assert scheduler.is_idle
    assert scheduler.admit() is None
    assert scheduler.rows_without_features() == scheduler.next_slices() == []


def test_a_row_costs_the_blocks_of_its_tokens_and_not_what_it_might_come_to():
    scheduler, row = Scheduling(), make_row(10)
    scheduler.put(row)
    assert len(row.blocks) == scheduler.space.used == -(-10 // BLOCK)


def test_a_row_waits_while_there_are_no_blocks_for_it_and_so_do_those_behind_it():
    scheduler = Scheduling(blocks=10)
    running, large, small = make_row(4), make_row(40), make_row(1)
    scheduler.run(running)
    scheduler.put(large, small)
    assert list(scheduler.waiting) == [large, small]
    scheduler.leave(running)
    scheduler.admit()
    assert large in scheduler.prefilling  # it takes all ten blocks, and is alone
    assert list(scheduler.waiting) == [small]


@pytest.mark.parametrize(("running", "reserve"), [(1, 1), (4, 2), (7, 2), (8, 3)])
def test_some_blocks_stay_free_so_that_running_rows_can_grow(running, reserve):
    scheduler = Scheduling(blocks=running + 1 + reserve)
    scheduler.store.memory = running + 1 + reserve
    scheduler.limit = 1000
    scheduler.run(*(make_row(3) for _ in range(running)))
    scheduler.put(make_row(4), make_row(4))
    assert len(scheduler.prefilling) == 1
    assert scheduler.space.used + reserve == scheduler.store.memory


def test_a_row_that_would_be_alone_is_admitted_beyond_the_limit():
    scheduler, row = Scheduling(blocks=0), make_row(30)
    scheduler.put(row, make_row())
    assert scheduler.rows == [row]


def test_a_row_that_finds_no_memory_even_alone_is_named_and_stays_the_next():
    scheduler, rows = Scheduling(), [make_row() for _ in range(2)]
    scheduler.store.memory = 1
    for row in rows:
        scheduler.add(row)
    assert scheduler.admit() is rows[0]
    assert list(scheduler.waiting) == rows
    scheduler.store.memory = 100
    assert scheduler.admit() is None
    assert scheduler.prefilling == rows


def test_no_row_is_admitted_while_steps_are_slow():
    scheduler = Scheduling(step_target=0.1)
    scheduler.run(make_row())
    scheduler.record_step(0.001)
    for _ in range(20):
        scheduler.record_step(0.2)
    scheduler.put(make_row())
    assert scheduler.waiting
    for _ in range(20):
        scheduler.record_step(0.05)
    scheduler.admit()
    assert not scheduler.waiting


@pytest.mark.parametrize(("slowdown", "admitted"), [(0.9, True), (1.1, False)])
def test_on_a_slow_device_a_step_may_take_a_multiple_of_the_fastest(slowdown, admitted):
    scheduler = Scheduling(step_target=0.1)
    scheduler.run(make_row())
    scheduler.record_step(1.0)
    for _ in range(50):
        scheduler.record_step(slowdown * MAX_SLOWDOWN)
    scheduler.put(make_row())
    assert (not scheduler.waiting) == admitted


def test_no_more_rows_are_admitted_than_the_next_prefill_takes():
    scheduler = Scheduling(most_tokens=25)
    rows = [make_row(10) for _ in range(5)]
    scheduler.put(*rows)
    assert scheduler.prefilling == rows[:3]
    scheduler.prefill()
    scheduler.admit()
    assert scheduler.prefilling == rows[2:]


def test_a_row_waits_for_the_prefix_that_is_being_prefilled_and_takes_it_over():
    scheduler = Scheduling(most_tokens=8)
    first, second = make_row(15, prefix=12), make_row(20, prefix=12)
    scheduler.put(first, second)
    assert list(scheduler.waiting) == [second]
    assert scheduler.prefill() == [(first, 0, 8)]
    scheduler.admit()
    assert list(scheduler.waiting) == [second]
    assert scheduler.prefill() == [(first, 8, 15)]
    scheduler.admit()
    assert scheduler.prefill() == [(second, 12, 20)]
    assert second.blocks[:3] == first.blocks[:3]


def test_a_row_takes_a_prefix_over_as_soon_as_it_is_computed():
    scheduler = Scheduling(most_tokens=12)
    first, second = make_row(16, prefix=12), make_row(14, prefix=12)
    scheduler.put(first, second)
    scheduler.prefill()
    scheduler.admit()
    assert scheduler.prefill() == [(first, 12, 16), (second, 12, 14)]


@pytest.mark.parametrize("other", [make_row(15, prefix=12, first=9), make_row(15)])
def test_a_row_waits_for_no_other_prefix(other):
    scheduler = Scheduling()
    scheduler.put(make_row(15, prefix=12), other)
    assert other in scheduler.prefilling


def test_where_nothing_is_kept_no_row_waits_for_a_prefix():
    scheduler, rows = Scheduling(kept=0), [make_row(15, prefix=12) for _ in range(2)]
    scheduler.put(*rows)
    assert scheduler.prefilling == rows
    assert scheduler.prefill() == [(row, 0, 15) for row in rows]


def test_prompts_are_packed_into_a_prefill_and_a_longer_one_is_sliced():
    scheduler = Scheduling(most_tokens=25)
    rows = [make_row(10), make_row(40), make_row(5)]
    scheduler.put(*rows)
    assert scheduler.prefill() == [(rows[0], 0, 10), (rows[1], 0, 15)]
    assert scheduler.running == [rows[0]]
    assert scheduler.prefill() == [(rows[1], 15, 40)]
    scheduler.admit()
    assert scheduler.prefill() == [(rows[2], 0, 5)]
    assert scheduler.running == rows
    assert not scheduler.prefilling


def test_beside_running_rows_a_prefill_has_as_many_tokens_as_the_gap_has_time_for():
    scheduler = Scheduling(gap=0.1, most_tokens=100)
    first, second = make_row(100), make_row(100)
    scheduler.put(first)
    scheduler.prefill()
    scheduler.record_prefill(100, 0.5, beside_rows=True)
    scheduler.put(second)
    assert scheduler.prefill() == [(second, 0, 16)]
    scheduler.leave(first)
    assert scheduler.prefill() == [(second, 16, 100)]


def test_images_are_seen_together_as_far_as_the_budget_goes():
    scheduler = Scheduling(most_tokens=100)
    rows = [make_row(20, prefix=18, visual=40, first=first) for first in range(5)]
    scheduler.put(*rows)
    assert scheduler.rows_without_features() == rows[:2]
    for row in rows[:2]:
        row.features = "seen"
    assert scheduler.rows_without_features() == []  # those are prefilled first
    assert scheduler.prefill() == [(rows[0], 0, 20), (rows[1], 0, 20)]
    assert [row.features for row in rows] == [None] * 5
    assert scheduler.rows_without_features() == rows[2:4]


def test_an_image_of_more_tokens_than_the_budget_is_seen_alone():
    scheduler = Scheduling(most_tokens=30)
    rows = [make_row(20, prefix=18, visual=40, first=first) for first in range(2)]
    scheduler.put(*rows)
    assert scheduler.rows_without_features() == rows[:1]


def test_what_was_seen_is_held_until_the_last_image_token_is_computed():
    scheduler, row = Scheduling(most_tokens=8), make_row(20, prefix=14, visual=9)
    scheduler.put(row)
    seen = []
    while scheduler.prefilling:
        scheduler.prefill()
        seen.append(row.features)
    assert seen == ["seen", None, None]


def test_a_prefix_that_is_kept_need_not_be_seen():
    scheduler = Scheduling()
    scheduler.run(make_row(20, prefix=14, visual=9))
    again = make_row(17, prefix=14, visual=9)
    scheduler.put(again)
    assert scheduler.rows_without_features() == []
    assert scheduler.prefill() == [(again, 14, 17)]


def test_a_row_that_leaves_gives_its_blocks_back_wherever_it_is():
    scheduler = Scheduling(most_tokens=12)
    running, prefilling, waiting = make_row(10), make_row(13), make_row(5)
    scheduler.run(running)
    scheduler.put(prefilling, waiting)
    assert scheduler.rows == [running, prefilling]
    assert list(scheduler.waiting) == [waiting]
    for row in (waiting, prefilling, running):
        scheduler.leave(row)
        assert (row.blocks, row.computed, row.features) == ([], 0, None)
    assert scheduler.is_idle
    assert scheduler.space.used == 0


def test_cancelled_rows_are_dropped_wherever_they_are():
    scheduler = Scheduling(most_tokens=20)
    running = [make_row() for _ in range(3)]
    scheduler.run(*running)
    prefilling, waiting = [make_row() for _ in range(2)], [make_row() for _ in range(3)]
    scheduler.put(*prefilling, *waiting)
    for row in (running[0], prefilling[1], waiting[1]):
        row.future.cancel()
    dropped = scheduler.drop_dead_rows()
    assert (dropped.cancelled, dropped.late) == (3, [])
    assert scheduler.running == running[1:]
    assert scheduler.prefilling == prefilling[:1]
    assert list(scheduler.waiting) == [waiting[0], waiting[2]]
    assert scheduler.space.used == sum(len(row.blocks) for row in scheduler.rows)


def test_a_deadline_drops_a_row_without_a_next_token_but_none_that_runs():
    scheduler = Scheduling(most_tokens=5)
    running, prefilling, waiting, other = rows = [make_row() for _ in range(4)]
    scheduler.run(running)
    scheduler.put(prefilling, waiting, other)
    for row in rows[:3]:
        row.deadline = Deadline(0)
    dropped = scheduler.drop_dead_rows()
    assert (dropped.cancelled, dropped.late) == (0, [prefilling, waiting])
    assert scheduler.rows == [running]
    assert list(scheduler.waiting) == [other]


def test_it_is_cleared_of_all_rows():
    scheduler = Scheduling(most_tokens=5)
    rows = [make_row() for _ in range(3)]
    scheduler.run(rows[0])
    scheduler.put(*rows[1:])
    assert Scheduler.clear(scheduler) == rows
    assert scheduler.is_idle
    assert scheduler.space.used == 0
