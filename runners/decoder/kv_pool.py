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


_CPU_ROOM = 8
"""On a CPU the tensors get so many times the blocks that are asked for. What was not written to yet
takes no memory there, and a pool that grows within that room need not be copied, which would hold
up rows in flight."""


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
        self.count = 0
        """How many blocks there are."""
        self._room = 0
        """How many blocks there can be before the tensors have to move."""
        self._wholes = [[self._blocks(0, device) for device in devices] for _ in range(2)]
        """The tensors of keys, and those of values, with all their room."""
        self.keys, self.values = (list(tensors) for tensors in self._wholes)

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
        ones, in their order, as they are when the pool grows; the layers that had grown shrink
        again.
        """
        grows = self._stay(kept)
        if not (grows and self.count <= count <= self._room):
            rooms = [count]
            if all(tensor.device.type == "cpu" for tensor in self.keys):
                rooms.insert(0, count * _CPU_ROOM)
            if not any(self._move(room, kept) for room in rooms):
                if grows:
                    self._move(self._room, kept)
                return False
        self._show(count)
        return True

    def copy(self, source: int, target: int) -> None:
        """Copy the keys and values of a block."""
        for tensor in (*self.keys, *self.values):
            tensor[target] = tensor[source]

    def _show(self, count: int) -> None:
        self.count = count
        self.keys, self.values = ([whole[:count] for whole in wholes] for wholes in self._wholes)

    def _stay(self, kept: Sequence[int]) -> bool:
        """Whether all blocks are kept, in their order."""
        return list(kept) == list(range(self.count))

    def _move(self, room: int, kept: Sequence[int]) -> bool:
        """Moves the kept blocks into tensors of so many blocks. Returns False if memory ran out."""
        shown, stay = min(self.count, room), self._stay(kept)
        try:
            for wholes, tensors in zip(self._wholes, (self.keys, self.values), strict=True):
                for layer, old in enumerate(wholes):
                    if stay and len(old) == room:  # as where memory ran out half-way before
                        continue
                    new = self._blocks(room, old.device)
                    _copy(old, new, kept)
                    wholes[layer], tensors[layer] = new, new[:shown]
                    self.generation += 1
        except Exception as error:
            if not torch_errors.is_out_of_memory(error):
                raise
            return False
        self._room = room
        return True

    def _blocks(self, count: int, device: torch.device) -> Tensor:
        shape = self.shape
        if device.type == "cpu":
            # A head's columns one after the other: a CPU reads them faster than pieces of a head.
            size = (shape.heads, count, self.block_size, shape.head_size)
            return torch.empty(size, dtype=shape.dtype).permute(1, 2, 0, 3)
        size = (count, self.block_size, shape.heads, shape.head_size)
        return torch.zeros(size, dtype=shape.dtype, device=device)


def _copy(old: Tensor, new: Tensor, kept: Sequence[int]) -> None:
    """Copies the kept blocks to the first places."""
    if list(kept) == list(range(len(kept))):
        new[: len(kept)] = old[: len(kept)]
    else:
        indices = torch.tensor(list(kept)).to(old.device, non_blocking=True)
        new[: len(kept)] = old.index_select(0, indices)
