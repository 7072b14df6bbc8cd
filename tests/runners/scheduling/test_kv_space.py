"""The blocks of rows and prefixes, over a store that holds a number for each column."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.deadline import Deadline
from runners.scheduling import kv_space
from runners.scheduling.kv_space import KvSpace
from runners.scheduling.row import GREEDY, Row
from tests.support.fakes.kv import ArrayStore, Prompt

MANY = 10**6


@pytest.fixture(autouse=True)
def _small_first_pool(monkeypatch):
    monkeypatch.setattr(kv_space, "_FIRST_COLUMNS", 8)


class Space(KvSpace):
    """Writes the columns of its rows as a model would, and compares them."""

    def __init__(self, store: ArrayStore, limit: int = MANY, kept_limit: int = MANY) -> None:
        super().__init__(store, lambda: self.limit, kept_limit)
        self.store = store
        self.limit = limit

    def compute(self, row: Row, columns: int = MANY) -> None:
        """Write the next columns of a row; keep its prefix once it is whole."""
        numbers = expected(row)
        for column in range(row.computed, min(row.computed + columns, row.columns)):
            self.store.write(row.blocks, column, numbers[column])
            row.computed = column + 1
        if row.computed >= row.encoded.prefix_length:
            self.keep_prefix(row)

    def check(self, row: Row) -> None:
        """What the row has computed is what it reads."""
        assert self.store.read(row.blocks, row.computed) == expected(row)[: row.computed]


def expected(row: Row) -> list[int]:
    """The number of each column: like keys and values, it depends on all tokens up to its own."""
    tokens = (*row.encoded.tokens, *row.tokens)
    return [hash(tokens[: column + 1]) for column in range(row.columns)]


def make_row(length: int = 10, prefix: int = 0, first: int = 7) -> Row:
    prompt = Prompt((first,) * prefix + tuple(range(length - prefix)), prefix)
    return Row(prompt, 100, Deadline(600), GREEDY)


def opened(space: Space, row: Row) -> Row:
    """The row, with blocks and all of its columns."""
    assert space.open(row, reserve=0, alone=False)
    space.compute(row)
    return row


MOVES = ("open", "open", "compute", "compute", "say", "say", "close", "forget", "shrink", "limit")
PROMPTS = [
    Prompt((1,) * prefix + (number,) * (length - prefix), prefix)
    for number, (length, prefix) in enumerate([(3, 0), (9, 4), (5, 4), (9, 6), (12, 6), (14, 11)])
]


@settings(derandomize=True, deadline=None, max_examples=300)
@given(
    st.lists(st.tuples(st.sampled_from(MOVES), st.integers(0, 30)), max_size=60),
    st.integers(1, 5),
    st.sampled_from([0, 3, MANY]),
)
def test_every_row_reads_what_was_computed_for_it(moves, block_size, kept_limit):
    space = Space(ArrayStore(block_size), kept_limit=kept_limit)
    store, rows, waiting = space.store, [], []
    for move, number in moves:
        before = store.count
        alone = not rows
        if move == "open":
            again = waiting and number % 2
            row = waiting.pop() if again else Row(PROMPTS[number % 6], 100, Deadline(9), GREEDY)
            reserve = number % 3
            if space.open(row, reserve, alone):
                assert space.used + reserve <= store.count
                rows.append(row)
            else:
                assert (row.blocks, row.computed) == ([], 0)
        elif move == "limit":
            space.limit = number
            store.memory = MANY if number % 4 else max(store.count - number // 5, 0)
        elif move == "forget":
            space.forget()
            assert space.kept == 0
        elif move == "shrink":
            for row in rows:
                space.close(row)
            waiting, rows = [*waiting, *rows], []
            space.shrink()
            assert store.count == space.used
        elif rows:
            row = rows[number % len(rows)]
            if move == "compute":
                space.compute(row, number)
            elif move == "close":
                rows.remove(row)
                space.close(row)
            elif move == "say" and row.computed == row.columns:
                row.tokens.append(1000 + number)
                if space.extend(row, alone=len(rows) == 1):
                    space.compute(row)
                else:
                    rows.remove(row)
                    space.close(row)
                    waiting.append(row)
        assert store.count <= max(before, space.limit) or alone or len(rows) == 1
        assert space.kept <= kept_limit
        for row in rows:
            space.check(row)
    for row in rows:
        space.close(row)
    space.forget()
    assert space.used == 0


def test_a_row_has_the_blocks_of_its_tokens_and_one_more_when_they_are_full():
    space, row = Space(ArrayStore(4)), make_row(7)
    opened(space, row)
    assert len(row.blocks) == 2
    row.tokens.append(1)
    assert space.extend(row, alone=False)
    assert len(row.blocks) == 2
    row.tokens.append(1)
    assert space.extend(row, alone=False)
    assert len(row.blocks) == space.used == 3
    space.close(row)
    assert (row.blocks, row.computed, space.used) == ([], 0, 0)


def test_rows_share_the_whole_blocks_of_a_prefix_and_copy_the_last():
    space = Space(ArrayStore(4))
    first = opened(space, make_row(12, prefix=10))
    second = make_row(13, prefix=10)
    assert space.open(second, reserve=0, alone=False)
    assert second.computed == 10
    assert second.blocks[:2] == first.blocks[:2]
    assert second.blocks[2] != first.blocks[2]
    assert space.used == 5
    space.check(second)
    space.compute(second)
    space.check(first)


def test_a_prefix_outlives_its_row_and_what_that_row_wrote_after_it():
    space = Space(ArrayStore(4))
    first = opened(space, make_row(11, prefix=10))
    for token in range(9):
        first.tokens.append(token)
        assert space.extend(first, alone=False)
        space.compute(first)
    space.close(first)
    assert space.used == space.kept == 3
    second = make_row(13, prefix=10)
    assert space.open(second, reserve=0, alone=False)
    space.check(second)


def test_prompts_that_begin_otherwise_share_nothing():
    space = Space(ArrayStore(4))
    opened(space, make_row(12, prefix=8))
    other = make_row(12, prefix=8, first=9)
    assert space.open(other, reserve=0, alone=False)
    assert other.computed == 0
    assert space.used == 6


def test_where_nothing_may_be_kept_nothing_is_shared_or_counted():
    space = Space(ArrayStore(4), kept_limit=0)
    opened(space, make_row(12, prefix=8))
    assert opened(space, make_row(12, prefix=8)).blocks[0] != 0
    assert space.kept == 0
    assert not space.keeps_prefixes
    assert set(space.stats.values()) == {0}


def test_of_kept_prefixes_the_least_recently_used_goes_first():
    space = Space(ArrayStore(4), kept_limit=4)
    for first in (1, 2, 1, 3):
        space.close(opened(space, make_row(9, prefix=8, first=first)))
    assert space.kept == 4
    assert space.stats == {"hits": 1, "misses": 3, "evictions": 1}
    for first, computed in ((1, 8), (3, 8), (2, 0)):
        row = make_row(9, prefix=8, first=first)
        assert space.open(row, reserve=0, alone=False)
        assert row.computed == computed
        space.close(row)


def test_a_prefix_larger_than_all_that_may_be_kept_puts_no_other_out():
    space = Space(ArrayStore(4), kept_limit=2)
    space.close(opened(space, make_row(9, prefix=8)))
    space.close(opened(space, make_row(13, prefix=12)))
    assert space.kept == 2
    assert space.stats["evictions"] == 0


def test_the_pool_doubles_up_to_its_limit():
    space = Space(ArrayStore(4), limit=10)
    rows = [opened(space, make_row(8)) for _ in range(5)]
    assert space.store.sizes == [2, 4, 8, 10]
    assert not space.open(make_row(1), reserve=0, alone=False)
    assert space.store.count == 10
    for row in rows:
        space.check(row)


def test_the_pool_grows_by_what_is_needed_where_there_is_no_memory_to_double():
    space = Space(ArrayStore(4))
    opened(space, make_row(32))
    space.store.memory = 11
    opened(space, make_row(8))
    assert space.store.sizes == [8, 16, 10]


def test_a_row_that_finds_no_memory_leaves_all_as_it_was():
    space = Space(ArrayStore(4))
    first = opened(space, make_row(8))
    space.store.memory = 2
    assert not space.open(make_row(8), reserve=0, alone=False)
    first.tokens.append(1)
    assert not space.extend(first, alone=True)
    assert space.used == space.store.count == len(first.blocks) == 2
    space.check(first)


def test_prefixes_go_before_a_row_is_refused():
    space = Space(ArrayStore(4), limit=4)
    space.close(opened(space, make_row(9, prefix=8)))
    opened(space, make_row(8))
    opened(space, make_row(8))
    assert space.kept == 0
    assert space.stats["evictions"] == 1


def test_prefixes_go_before_the_limit_is_passed_for_a_row_that_is_alone():
    space = Space(ArrayStore(4), limit=4)
    space.close(opened(space, make_row(9, prefix=8)))
    assert space.open(make_row(16), reserve=0, alone=True)
    assert (space.kept, space.store.count) == (0, 4)


def test_a_prefix_that_goes_while_a_row_takes_it_over_is_whole_in_that_row():
    space = Space(ArrayStore(4), limit=3)
    space.close(opened(space, make_row(11, prefix=10)))
    row = make_row(12, prefix=10)
    assert space.open(row, reserve=0, alone=False)
    assert space.kept == 0
    assert row.computed == 10
    space.check(row)


def test_a_row_that_is_refused_holds_no_block_of_its_prefix():
    space = Space(ArrayStore(4), limit=4)
    space.close(opened(space, make_row(9, prefix=8)))
    row = make_row(40, prefix=8)
    assert not space.open(row, reserve=0, alone=False)
    assert (row.blocks, row.computed, space.used) == ([], 0, 0)


def test_growth_comes_before_the_loss_of_prefixes():
    space = Space(ArrayStore(4), limit=5)
    space.close(opened(space, make_row(9, prefix=8)))
    opened(space, make_row(12))
    assert space.kept == 2
    assert space.store.count == 5


def test_the_reserve_stays_free_and_is_not_taken():
    space = Space(ArrayStore(4), limit=6)
    opened(space, make_row(8))
    assert not space.open(make_row(8), reserve=3, alone=False)
    assert space.open(make_row(8), reserve=2, alone=False)
    assert space.used == 4


def test_the_limit_does_not_hold_for_a_row_that_is_alone():
    space, row = Space(ArrayStore(4), limit=0), make_row(30)
    assert not space.open(row, reserve=0, alone=False)
    assert space.open(row, reserve=0, alone=True)
    space.compute(row)
    row.tokens += [1, 2, 3]
    assert not space.extend(row, alone=False)
    assert space.extend(row, alone=True)
    assert space.store.count == 9  # and no more than it needs


def test_shrinking_keeps_the_prefixes_alone_and_renumbers_them():
    space = Space(ArrayStore(4))
    rows = [opened(space, make_row(11, prefix=10, first=first)) for first in (1, 2, 3)]
    for row in rows:
        space.close(row)
    space.close(opened(space, make_row(80)))
    space.shrink()
    assert space.store.count == space.kept == space.used == 9
    for row in rows:
        assert space.open(row, reserve=0, alone=False)
        assert row.computed == 10
        space.check(row)


def test_shrinking_without_anything_free_asks_nothing_of_the_store():
    space = Space(ArrayStore(4))
    space.shrink()
    space.close(opened(space, make_row(9, prefix=8)))
    space.shrink()
    space.store.sizes.clear()
    space.shrink()
    assert space.store.sizes == []


def test_where_there_is_no_memory_even_to_shrink_the_prefixes_are_dropped():
    space = Space(ArrayStore(4))
    space.close(opened(space, make_row(9, prefix=8)))
    space.store.memory = 1
    space.shrink()
    assert space.store.count == space.used == space.kept == 0
    space.store.memory = MANY
    row = opened(space, make_row(9, prefix=8))
    space.check(row)
