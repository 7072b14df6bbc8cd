"""Decides which blocks of the KV cache each row has, and which prefixes are kept. Imports no torch.

The scheme is PagedAttention's (Kwon et al., SOSP 2023): a row has a table of blocks, and rows whose
prompts begin alike share the blocks of that prefix, counted by reference and copied on write.
"""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from runners.scheduling.blocks import Blocks
from runners.scheduling.row import Row

KV_SHARE = 0.6
"""Share of the free memory that the KV cache may take. The rest is for activations, encoding, and
other models."""
_FIRST_COLUMNS = 4096
"""Columns of the first pool; each growth doubles it."""
_LEAST_GROWTH = 8
"""A pool near its limit grows by an eighth or not at all: each growth moves all that it holds."""


class BlockStore(Protocol):
    """Holds the keys and values of blocks, as `runners.decoder.kv_pool.KvPool` does."""

    block_size: int
    """Columns of a block."""

    def resize(self, count: int, kept: Sequence[int]) -> bool:
        """Hold so many blocks, the kept ones first. False if memory ran out.

        Then the blocks are as they were, if it was to grow; otherwise nothing is left of them.
        """
        ...

    def copy(self, source: int, target: int) -> None:
        """Copy the keys and values of a block."""
        ...


@dataclass
class Prefix:
    """The beginning of a prompt whose keys and values are kept."""

    blocks: list[int]
    length: int
    """Columns; the last block may be filled in part."""


class KvSpace:
    """The blocks of all rows, and the prefixes that are kept between requests.

    The pool doubles when blocks run out, up to `limit`; then prefixes are dropped, the least
    recently used first; then whoever asks has to wait. Only for a row that is alone the pool grows
    beyond its limit then, by what that row needs.
    """

    def __init__(self, store: BlockStore, limit: Callable[[], int], kept_limit: int) -> None:
        """limit: how many blocks the pool may have now. kept_limit: how many blocks prefixes may
        hold."""
        self._store = store
        self._limit = limit
        self._kept_limit = kept_limit
        self._blocks = Blocks()
        self._prefixes: OrderedDict[bytes, Prefix] = OrderedDict()
        self._hits = self._misses = self._evictions = 0

    @property
    def used(self) -> int:
        """Blocks that rows or prefixes hold."""
        return self._blocks.count - self._blocks.free

    @property
    def kept(self) -> int:
        """Blocks that prefixes hold."""
        return sum(len(prefix.blocks) for prefix in self._prefixes.values())

    @property
    def stats(self) -> dict[str, int]:
        """Counts since the start: hits, misses, evictions."""
        return {"hits": self._hits, "misses": self._misses, "evictions": self._evictions}

    @property
    def keeps_prefixes(self) -> bool:
        return self._kept_limit > 0

    def open(self, row: Row, reserve: int, alone: bool) -> bool:
        """Give a row the blocks for all its tokens so far; False, and nothing, if there are none.

        The columns of a prefix that is kept count as computed, and those of a sibling's prompt but
        for the last one, from which the row's first token follows. reserve: free blocks that have
        to be left over. alone: whether the row is the only one, for which the limit does not hold.
        """
        sibling = self._prompt_of_sibling(row)
        prefix = sibling or self._prefix_of(row)
        whole = prefix.length // self._store.block_size if prefix else 0
        shared = prefix.blocks[:whole] if prefix else []
        self._blocks.share(shared)
        number = self._blocks_for(row.columns) - whole
        taken = self._take(number, shared[-1] if shared else None, reserve, alone)
        if taken is None:
            self._blocks.give_back(shared)
            return False
        row.blocks = [*shared, *taken]
        row.computed = 0
        if row.encoded.prefix_length and self.keeps_prefixes and not sibling:
            self._hits, self._misses = self._hits + bool(prefix), self._misses + (not prefix)
        if prefix:
            row.computed = prefix.length
            if prefix.length % self._store.block_size:
                self._store.copy(prefix.blocks[whole], taken[0])
        return True

    def holds(self, row: Row) -> bool:
        """Whether the row has a column for its newest token."""
        return row.columns <= len(row.blocks) * self._store.block_size

    def extend(self, row: Row, alone: bool) -> bool:
        """See to it that the row has a column for its newest token; False if there is none."""
        if self.holds(row):
            return True
        taken = self._take(1, row.blocks[-1], 0, alone)
        if taken is None:
            return False
        row.blocks += taken
        return True

    def close(self, row: Row) -> None:
        """Take the blocks of a row back."""
        self._blocks.give_back(row.blocks)
        row.blocks = []
        row.computed = 0

    def keep_prefix(self, row: Row) -> None:
        """Keep the row's prefix for other rows, once it is computed."""
        length, key = row.encoded.prefix_length, row.encoded.prefix_key
        blocks = row.blocks[: self._blocks_for(length)]
        if not length or key in self._prefixes or len(blocks) > self._kept_limit:
            return
        self._blocks.share(blocks)
        self._prefixes[key] = Prefix(blocks, length)
        while self.kept > self._kept_limit:
            self._evict()

    def forget(self) -> None:
        """Drop all prefixes."""
        while self._prefixes:
            self._evict()

    def shrink(self) -> None:
        """Give the memory of all free blocks back to the device. No row may be open."""
        if self._blocks.count == self.used:
            return
        before = self._blocks.compact()
        numbers = {old: new for new, old in enumerate(before)}
        for prefix in self._prefixes.values():
            prefix.blocks = [numbers[block] for block in prefix.blocks]
        if not self._store.resize(len(before), before):
            self.forget()
            self._blocks.resize(0)
            self._store.resize(0, [])

    def _prompt_of_sibling(self, row: Row) -> Prefix | None:
        """The prompt but for its last token, if a sibling has computed it."""
        length = row.encoded.length - 1
        for sibling in row.siblings:
            if sibling.blocks and sibling.computed >= length > 0:
                return Prefix(sibling.blocks[: self._blocks_for(length)], length)
        return None

    def _prefix_of(self, row: Row) -> Prefix | None:
        if not row.encoded.prefix_length or not self._prefixes:
            return None
        prefix = self._prefixes.get(row.encoded.prefix_key)
        if prefix is not None:
            self._prefixes.move_to_end(row.encoded.prefix_key)
        return prefix

    def _blocks_for(self, columns: int) -> int:
        return -(-columns // self._store.block_size)

    def _take(self, number: int, after: int | None, reserve: int, alone: bool) -> list[int] | None:
        wanted = number + reserve
        while self._blocks.free < wanted and self._grow(wanted, self._limit()):
            pass
        while self._blocks.free < wanted and self._prefixes:
            self._evict()
        if alone and self._blocks.free < wanted:
            self._grow(wanted, limit=None)
        if self._blocks.free < wanted:
            return None
        return self._blocks.take(number, after)

    def _grow(self, number: int, limit: int | None) -> bool:
        """Let the pool grow, so that `number` blocks are free if possible. False if it cannot.

        limit: how many blocks it may have; None lets it have what is needed, and no more.
        """
        count = self._blocks.count
        needed = count + number - self._blocks.free
        wanted = max(needed, 2 * count, self._blocks_for(_FIRST_COLUMNS))
        sizes = (needed,) if limit is None else (min(wanted, limit), min(needed, limit))
        least = count + (0 if limit is None else count // _LEAST_GROWTH)
        for size in dict.fromkeys(sizes):
            if size > least and self._store.resize(size, range(count)):
                self._blocks.resize(size)
                return True
        return False

    def _evict(self) -> None:
        _, prefix = self._prefixes.popitem(last=False)
        self._blocks.give_back(prefix.blocks)
        self._evictions += 1
