"""Holds the keys and values of all layers in blocks."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from runners import torch_errors


@dataclass(frozen=True)
class KvShape:
    """What a layer keeps of a column."""

    heads: int
    head_size: int
    dtype: torch.dtype


class KvPool:
    """Keys and values of a number of blocks, for each layer [blocks, block size, heads, head size].

    The layers may be on different devices. Which row has which block is decided elsewhere.
    """

    def __init__(self, shape: KvShape, devices: Sequence[torch.device], block_size: int) -> None:
        """devices: of each layer. block_size: columns of a block."""
        self.shape = shape
        self.block_size = block_size
        self.generation = 0
        """Changes whenever the tensors move."""
        self.keys = [self._blocks(0, device) for device in devices]
        self.values = [self._blocks(0, device) for device in devices]

    @property
    def count(self) -> int:
        """How many blocks there are."""
        return min(map(len, [*self.keys, *self.values]))

    @property
    def bytes_per_column(self) -> int:
        """Bytes of one column in all layers."""
        element = torch.empty(0, dtype=self.shape.dtype).element_size()
        return 2 * len(self.keys) * self.shape.heads * self.shape.head_size * element

    @property
    def bytes_per_block(self) -> int:
        return self.block_size * self.bytes_per_column

    @property
    def held_bytes(self) -> int:
        return self.count * self.bytes_per_block

    def resize(self, count: int, kept: Sequence[int]) -> bool:
        """Hold so many blocks, the kept ones first. Returns False if memory ran out.

        One layer at a time moves into new tensors, so that little more memory is needed meanwhile.
        Where memory runs out half-way, what was kept is whole if the kept blocks were the first
        ones, in their order, as they are when the pool grows.
        """
        try:
            for tensors in (self.keys, self.values):
                for layer, old in enumerate(tensors):
                    tensors[layer] = self._moved(old, count, kept)
                    self.generation += 1
        except Exception as error:
            if not torch_errors.is_out_of_memory(error):
                raise
            return False
        return True

    def copy(self, source: int, target: int) -> None:
        """Copy the keys and values of a block."""
        for tensor in (*self.keys, *self.values):
            tensor[target] = tensor[source]

    def _moved(self, old: Tensor, count: int, kept: Sequence[int]) -> Tensor:
        new = self._blocks(count, old.device)
        if list(kept) == list(range(len(kept))):
            new[: len(kept)] = old[: len(kept)]
        else:
            indices = torch.tensor(list(kept)).to(old.device, non_blocking=True)
            new[: len(kept)] = old.index_select(0, indices)
        return new

    def _blocks(self, count: int, device: torch.device) -> Tensor:
        shape = self.shape
        if device.type == "cpu":
            # A head's columns one after the other: a CPU reads them faster than pieces of a head.
            size = (shape.heads, count, self.block_size, shape.head_size)
            return torch.zeros(size, dtype=shape.dtype).permute(1, 2, 0, 3)
        size = (count, self.block_size, shape.heads, shape.head_size)
        return torch.zeros(size, dtype=shape.dtype, device=device)
