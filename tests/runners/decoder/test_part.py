from hypothesis import given
from hypothesis import strategies as st

from runners.decoder.part import Part, places

SIZE = 4


def test_the_places_of_tokens_follow_the_blocks_of_their_row():
    parts = [Part([5, 2], start=3, count=3), Part([0], start=0, count=2)]
    assert places(parts, SIZE) == [5 * SIZE + 3, 2 * SIZE, 2 * SIZE + 1, 0, 1]


def test_blocks_side_by_side_are_one_piece():
    assert list(Part([3, 4, 5], 0, 10).runs(10, SIZE)) == [(12, 22)]


def test_blocks_apart_are_several_pieces():
    assert list(Part([3, 4, 1], 0, 10).runs(10, SIZE)) == [(12, 20), (4, 6)]


@given(
    blocks=st.lists(st.integers(0, 30), min_size=1, max_size=8, unique=True),
    columns=st.integers(1, 32),
)
def test_the_pieces_hold_each_column_once_and_in_order(blocks, columns):
    columns = min(columns, len(blocks) * SIZE)
    part = Part(blocks, 0, columns)
    pieces = [place for first, last in part.runs(columns, SIZE) for place in range(first, last)]
    assert pieces == places([part], SIZE)
