from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runners.scheduling.blocks import Blocks


def make_blocks(count: int) -> Blocks:
    blocks = Blocks()
    blocks.resize(count)
    return blocks


MOVES = ("take", "take beside", "share", "give back", "resize", "compact")


@settings(derandomize=True, deadline=None, max_examples=200)
@given(st.lists(st.tuples(st.sampled_from(MOVES), st.integers(0, 12)), max_size=60))
def test_a_block_is_free_while_nobody_holds_it_and_nobody_gets_one_that_is_not(moves):
    blocks = Blocks()
    holders: list[list[int]] = []
    """Each holds one reference to each of its blocks."""
    for move, number in moves:
        used = {block for held in holders for block in held}
        if move.startswith("take"):
            after = number % blocks.count if move == "take beside" and blocks.count else None
            free = blocks.free
            taken = blocks.take(number, after)
            if taken is None:
                assert free < number
            else:
                assert len(set(taken)) == len(taken) == number
                assert not used & set(taken)
                assert set(taken) <= set(range(blocks.count))
                holders.append(taken)
        elif move == "resize":
            blocks.resize(max(used, default=-1) + 1 + number)
        elif move == "compact":
            kept = blocks.compact()
            assert kept == sorted(used)
            assert blocks.count == len(kept)
            holders = [[kept.index(block) for block in held] for held in holders]
        elif not holders:
            continue
        elif move == "share":
            held = holders[number % len(holders)]
            blocks.share(held)
            holders.append(list(held))
        else:
            blocks.give_back(holders.pop(number % len(holders)))
        references = Counter(block for held in holders for block in held)
        assert blocks.free == blocks.count - len(references)


def test_an_empty_pool_is_filled_from_its_start():
    assert make_blocks(16).take(3) == [0, 1, 2]


def test_blocks_lie_beside_the_one_that_is_named():
    blocks = make_blocks(16)
    first = blocks.take(2)
    assert blocks.take(2, first[-1]) == [2, 3]


def test_a_row_is_put_where_it_and_the_row_before_it_can_grow():
    blocks = make_blocks(20)
    first = blocks.take(2)
    second = blocks.take(4)
    assert second == [9, 10, 11, 12]
    assert blocks.take(7, first[-1]) == [*range(2, 9)]
    assert blocks.take(7, second[-1]) == [*range(13, 20)]


@pytest.mark.parametrize(
    ("taken", "number", "expected"),
    [
        ([2], 2, [5, 6]),  # of the gaps 0 to 1 and 3 to 9 the middle of the longer
        ([2, 5, 8], 2, [0, 1]),
        ([1, 3, 5, 7, 9], 3, [0, 2, 4]),  # no gap is so long
        ([0, 1, 2, 3, 4, 5, 6, 7, 8], 1, [9]),
    ],
)
def test_blocks_are_taken_side_by_side_where_a_gap_is_long_enough(taken, number, expected):
    blocks = make_blocks(10)
    blocks.take(10)
    blocks.give_back(set(range(10)) - set(taken))
    assert blocks.take(number) == expected


def test_a_place_that_is_taken_or_past_the_end_is_no_reason_to_refuse():
    blocks = make_blocks(4)
    assert blocks.take(2) == [0, 1]
    assert blocks.take(1, 0) == [2]
    assert blocks.take(1, 3) == [3]


def test_too_few_free_blocks_give_none_and_take_none():
    blocks = make_blocks(3)
    assert blocks.take(4) is None
    assert blocks.free == 3
    assert blocks.take(0) == Blocks().take(0) == []


def test_what_would_corrupt_a_row_is_an_error():
    blocks = make_blocks(3)
    held = blocks.take(2)
    with pytest.raises(AssertionError, match="in use"):
        blocks.resize(1)
    with pytest.raises(AssertionError, match="cannot be shared"):
        blocks.share([*held, 2])
    blocks.give_back(held)
    with pytest.raises(AssertionError, match="was given back"):
        blocks.give_back(held)
