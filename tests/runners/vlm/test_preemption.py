"""Which row gives way where memory runs out; and that no row is ever lost. No model, no device."""

from hypothesis import given, settings
from hypothesis import strategies as st

from common.deadline import Deadline
from tests.support.fakes.scheduling import BLOCK, Scheduling, make_row


def test_the_row_that_started_last_gives_way_and_is_the_next_to_be_admitted():
    scheduler = Scheduling(blocks=6)
    first, second, behind = make_row(4), make_row(4), make_row(30)
    scheduler.run(first, second)
    scheduler.put(behind)
    while scheduler.running == [first, second]:
        assert scheduler.decode() is None
    assert scheduler.running == [first]
    assert list(scheduler.waiting) == [second, behind]
    assert scheduler.preemptions == 1
    assert second.blocks == []


def test_it_keeps_its_tokens_and_is_prefilled_with_them():
    scheduler, row = Scheduling(most_tokens=4), make_row(5)
    scheduler.run(row)
    for _ in range(4):
        scheduler.decode()
    assert row.columns == 10
    scheduler.preempt_youngest()
    scheduler.admit()
    made = [scheduler.prefill() for _ in range(3)]
    assert made == [[(row, 0, 4)], [(row, 4, 8)], [(row, 8, 10)]]
    assert scheduler.running == [row]


def test_a_row_that_was_prefilled_again_is_the_youngest():
    scheduler = Scheduling()
    first, second, third = rows = [make_row() for _ in range(3)]
    scheduler.run(*rows)
    scheduler.preempt_youngest()
    scheduler.preempt_youngest()
    assert list(scheduler.waiting) == [second, third]
    scheduler.admit()
    while scheduler.prefilling:
        scheduler.prefill()
    scheduler.preempt_youngest()
    assert list(scheduler.waiting) == [third]
    assert scheduler.running == [first, second]


def test_a_row_that_is_prefilled_gives_way_to_those_that_run():
    scheduler = Scheduling(blocks=8, most_tokens=4)
    running, prefilling = make_row(4), make_row(20)
    scheduler.run(running)
    scheduler.put(prefilling)
    scheduler.prefill()
    while prefilling in scheduler.prefilling:
        assert scheduler.decode() is None
    assert (prefilling.blocks, prefilling.computed) == ([], 0)
    assert scheduler.running == [running]


def test_as_many_rows_give_way_as_the_older_ones_need():
    scheduler = Scheduling(blocks=4)
    rows = [make_row(BLOCK) for _ in range(4)]
    scheduler.limit = 100
    scheduler.run(*rows)
    scheduler.store.memory = scheduler.store.count
    while scheduler.space.used < scheduler.store.count:
        scheduler.decode()
    while len(scheduler.running) > 1:
        before = len(scheduler.running)
        assert scheduler.decode() is None
        assert scheduler.running == rows[: len(scheduler.running)]
        assert len(scheduler.running) <= before


def test_prefixes_go_before_a_row_gives_way():
    scheduler = Scheduling(blocks=5)
    old = make_row(9, prefix=8)
    scheduler.run(old)
    scheduler.leave(old)
    row = make_row(4)
    scheduler.run(row)
    for _ in range(14):
        assert scheduler.decode() is None
    assert scheduler.space.kept == 0
    assert scheduler.preemptions == 0


def test_a_lone_row_goes_beyond_the_limit_and_is_named_where_memory_ends():
    scheduler, row = Scheduling(blocks=1), make_row(4)
    scheduler.run(row)
    for _ in range(20):
        assert scheduler.decode() is None
    scheduler.store.memory = scheduler.store.count
    while scheduler.decode() is None:
        pass
    assert scheduler.make_room() is row
    assert scheduler.running == [row]
    assert row.columns == scheduler.store.count * BLOCK + 1


def test_where_memory_ran_out_no_more_rows_run_than_then():
    scheduler = Scheduling()
    rows = [make_row() for _ in range(3)]
    scheduler.run(*rows)
    scheduler.preempt_youngest()
    scheduler.limit_rows()
    scheduler.put(make_row())
    assert scheduler.running == rows[:2]
    assert not scheduler.prefilling
    scheduler.leave(rows[0])
    scheduler.admit()
    assert scheduler.prefilling == [rows[2]]


def test_one_row_runs_whatever_memory_ran_out():
    scheduler, row = Scheduling(), make_row()
    scheduler.run(row)
    scheduler.preempt_youngest()
    scheduler.limit_rows()
    scheduler.admit()
    assert scheduler.prefilling == [row]


def test_an_idle_scheduler_forgets_that_memory_ran_out():
    scheduler = Scheduling()
    rows = [make_row() for _ in range(2)]
    scheduler.run(*rows)
    scheduler.preempt_youngest()
    scheduler.limit_rows()
    for row in rows:
        scheduler.leave(row)
    more = [make_row() for _ in range(3)]
    scheduler.put(*more)
    assert scheduler.prefilling == more


MOVES = (
    *("add", "add", "admit", "prefill", "prefill", "decode", "decode"),
    *("leave", "cancel", "late", "preempt", "limit"),
)


@settings(derandomize=True, deadline=None, max_examples=200)
@given(
    moves=st.lists(st.tuples(st.sampled_from(MOVES), st.integers(0, 50)), max_size=80),
    blocks=st.integers(0, 20),
    most_tokens=st.integers(1, 30),
    kept=st.sampled_from([0, 4, 100]),
)
def test_no_row_is_lost_none_is_twice_there_and_all_can_be_run_to_their_end(
    moves, blocks, most_tokens, kept
):
    scheduler = Scheduling(blocks, most_tokens=most_tokens, kept=kept)
    there, gone = [], []
    for move, number in moves:
        if move == "add":
            prefix = number % 5 * 2
            there.append(make_row(1 + prefix + number, prefix, visual=prefix // 2))
            scheduler.add(there[-1])
        elif move == "admit":
            assert scheduler.admit() is None
        elif move == "prefill":
            slices = scheduler.prefill()
            assert sum(end - start for _, start, end in slices) <= most_tokens
            assert all(start < end for _, start, end in slices)
        elif move == "decode":
            assert scheduler.decode() is None
        elif move == "preempt" and scheduler.rows:
            scheduler.preempt_youngest()
        elif move == "limit":
            scheduler.limit_rows()
        elif move in ("leave", "cancel", "late") and there:
            row = there[number % len(there)]
            if move == "leave":
                scheduler.leave(row)
            elif move == "cancel":
                row.future.cancel()
                assert scheduler.drop_dead_rows().cancelled == 1
            elif row not in scheduler.running:
                row.deadline = Deadline(0)
                assert scheduler.drop_dead_rows().late == [row]
            else:
                continue
            there.remove(row)
            gone.append(row)
        held = [*scheduler.running, *scheduler.prefilling, *scheduler.waiting]
        assert len(held) == len(there)
        assert set(held) == set(there)
        assert not any(row.blocks for row in [*scheduler.waiting, *gone])
        assert all(row.computed < row.columns for row in scheduler.prefilling)
        assert all(row.computed == row.columns - 1 for row in scheduler.running)
    while not scheduler.is_idle:
        assert scheduler.admit() is None
        scheduler.prefill()
        assert scheduler.decode() is None
        for row in [row for row in scheduler.running if len(row.tokens) >= 9]:
            scheduler.leave(row)
    scheduler.space.forget()
    assert scheduler.space.used == 0
