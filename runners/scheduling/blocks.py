"""Counts the references to the blocks of the KV cache, and hands out free ones. Imports no torch.

A block is a number here; `runners.decoder.kv_pool` holds the keys and values behind it.
"""

from collections.abc import Iterable, Sequence

import numpy as np


class Blocks:
    """The blocks of a pool, numbered from 0. A block is free while nobody holds a reference to it.

    Blocks are handed out side by side where that is possible, and new ones in the middle of the
    largest gap, so that a row can grow in place: attention reads blocks that lie side by side as
    one piece.
    """

    def __init__(self) -> None:
        self._references = np.zeros(0, dtype=np.int32)

    @property
    def count(self) -> int:
        return len(self._references)

    @property
    def free(self) -> int:
        return int(np.count_nonzero(self._references == 0))

    def resize(self, count: int) -> None:
        """Change the number of blocks. All blocks from `count` on must be free."""
        kept = self._references[:count]
        assert not self._references[count:].any(), "a block in use cannot be dropped"
        self._references = np.zeros(count, dtype=np.int32)
        self._references[: len(kept)] = kept

    def take(self, number: int, after: int | None = None) -> list[int] | None:
        """Hand out free blocks, one reference each; None, and nothing, if there are too few.

        after: the block beside which the first of them should lie.
        """
        if number == 0:
            return []
        if after is not None and self._are_free(after + 1, number):
            taken = list(range(after + 1, after + 1 + number))
        else:
            free = np.flatnonzero(self._references == 0)
            if len(free) < number:
                return None
            taken = _side_by_side(free, number)
        self._references[taken] = 1
        return taken

    def share(self, blocks: Sequence[int]) -> None:
        """Add a reference to each block. All must be in use."""
        assert (self._references[list(blocks)] > 0).all(), "a free block cannot be shared"
        self._references[list(blocks)] += 1

    def give_back(self, blocks: Iterable[int]) -> None:
        """Drop a reference to each block, which is free after its last."""
        for block in blocks:
            assert self._references[block] > 0, "a free block was given back"
            self._references[block] -= 1

    def compact(self) -> list[int]:
        """Renumber the blocks in use to 0, 1, … and drop the free ones. Returns the old numbers."""
        kept: list[int] = np.flatnonzero(self._references).tolist()
        self._references = self._references[kept]
        return kept

    def _are_free(self, first: int, number: int) -> bool:
        wanted = self._references[first : first + number]
        return len(wanted) == number and not wanted.any()


def _side_by_side(free: np.ndarray, number: int) -> list[int]:
    """Choose from ascending numbers: from the middle of the longest gap, or the first ones."""
    gaps = np.split(free, np.flatnonzero(np.diff(free) > 1) + 1)
    longest = max(gaps, key=len)
    if len(longest) < number:
        taken: list[int] = free[:number].tolist()
        return taken
    # An empty pool is filled from its start; later rows leave half of a gap to the row before it.
    first = 0 if longest[0] == 0 else (len(longest) - number) // 2
    chosen: list[int] = longest[first : first + number].tolist()
    return chosen
