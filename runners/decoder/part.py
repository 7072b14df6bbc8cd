"""What a forward computes of one row."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise


@dataclass(frozen=True)
class Part:
    """Tokens of one row that a forward computes, and the blocks in which the row's columns are."""

    blocks: Sequence[int]
    """In the order of the columns, at least up to `end`."""
    start: int
    """Column of the first token; the columns before it are in the cache."""
    count: int
    """How many tokens."""

    @property
    def end(self) -> int:
        return self.start + self.count

    @property
    def is_one_piece(self) -> bool:
        """Whether its blocks lie side by side."""
        return all(after == block + 1 for block, after in pairwise(self.blocks))

    def runs(self, columns: int, block_size: int) -> Iterator[tuple[int, int]]:
        """The first `columns` columns as pieces that lie in one: their places in the pool.

        Makes the first place and the place after the last, in columns of the pool.
        """
        used = self.blocks[: -(-columns // block_size)]
        first = 0
        for position in range(1, len(used) + 1):
            if position == len(used):
                start = used[first] * block_size
                yield start, start + columns - first * block_size
            elif used[position] != used[position - 1] + 1:
                yield used[first] * block_size, (used[position - 1] + 1) * block_size
                first = position


def places(parts: Sequence[Part], block_size: int) -> list[int]:
    """The place in the pool, in columns, of each token of the parts."""
    return [
        part.blocks[column // block_size] * block_size + column % block_size
        for part in parts
        for column in range(part.start, part.end)
    ]
