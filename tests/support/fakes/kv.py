"""Prompts, and a store of KV blocks, for tests without a model."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

UNWRITTEN = -1


@dataclass(frozen=True)
class Prompt:
    """Has what the scheduler and the KV space ask of an encoded request."""

    tokens: tuple[int, ...]
    prefix_length: int = 0
    visual_tokens: int = 0

    @property
    def length(self) -> int:
        return len(self.tokens)

    @property
    def prefix_key(self) -> bytes:
        return bytes(self.tokens[: self.prefix_length])


class ArrayStore:
    """A `BlockStore` that holds one number for each column."""

    def __init__(self, block_size: int = 4) -> None:
        self.block_size = block_size
        self.memory = 10**6
        """Blocks for which there is memory."""
        self.sizes: list[int] = []
        """Every number of blocks that it was asked to hold."""
        self.numbers = np.zeros((0, block_size), dtype=np.int64)

    @property
    def count(self) -> int:
        return len(self.numbers)

    def resize(self, count: int, kept: Sequence[int]) -> bool:
        self.sizes.append(count)
        if count > self.memory:
            if count < self.count:
                self.numbers[:] = UNWRITTEN
            return False
        resized = np.full((count, self.block_size), UNWRITTEN, dtype=np.int64)
        resized[: len(kept)] = self.numbers[list(kept)]
        self.numbers = resized
        return True

    def copy(self, source: int, target: int) -> None:
        self.numbers[target] = self.numbers[source]

    def write(self, blocks: Sequence[int], column: int, number: int) -> None:
        """Write a column of a row that has these blocks."""
        self.numbers[blocks[column // self.block_size], column % self.block_size] = number

    def read(self, blocks: Sequence[int], columns: int) -> list[int]:
        """The first columns of a row that has these blocks."""
        read: list[int] = self.numbers[list(blocks)].reshape(-1)[:columns].tolist()
        return read
