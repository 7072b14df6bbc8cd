"""Holds the KV cache of the running rows: preallocated, written in place, grown in chunks."""

import functools
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import Cache
from transformers.cache_utils import CacheLayerMixin


class KvCache(Cache):
    """Keys and values of rows of different lengths, which join and leave between two steps.

    A layer is a tensor of keys and a tensor of values, `[slots, heads, columns, head size]`. Row i
    is in slot i, from column 0 on; slots 0 to n-1 are live. What is copied, and when:

    - in a step, only the new token's keys and values: one column a row, at the row's own length;
      attention reads views of the live rows, as wide as the longest;
    - when a row joins, its prompt, once. The rest of its slot is zeroed: a masked column has the
      weight zero, but zero times NaN is NaN;
    - when a row leaves, the last row, which moves into its slot;
    - when the rows no longer fit, each layer in turn moves into tensors of as many whole chunks as
      the live rows need. While no row joins, that happens at most once in `column_chunk` steps.

    `end_step` ends a step. Until then the same columns are written again, so that a failed step can
    be repeated. The layers may be on different devices.

    A model gets the mask of `begin_step` as `[rows, 1, 1, columns]`. As `[rows, columns]` it is
    exact too: the library's causal mask starts from `get_seq_length`, the longest row's length.
    """

    def __init__(self, row_chunk: int = 4, column_chunk: int = 256) -> None:
        super().__init__(layers=[])
        self.layers: list[KvLayer] = []
        self.lengths: list[int] = []
        """How many columns each live row has filled."""
        self._row_chunk = row_chunk
        self._column_chunk = column_chunk

    @property
    def width(self) -> int:
        """Columns of the longest live row."""
        return max(self.lengths, default=0)

    @property
    def bytes_per_token(self) -> int:
        """Bytes of one column of one row in all layers; 0 until the first row has joined."""
        return sum(
            tensor.shape[1] * tensor.shape[3] * tensor.element_size()
            for layer in self.layers
            for tensor in (layer.keys, layer.values)
        )

    @property
    def held_bytes(self) -> int:
        return sum(layer.keys.nbytes + layer.values.nbytes for layer in self.layers)

    def bytes_for(self, rows: int, columns: int) -> int:
        """Bytes held for so many rows, the longest of which has so many columns."""
        slots, capacity = self._whole_chunks(rows, columns)
        return slots * capacity * self.bytes_per_token

    def join(self, prompt: Sequence[tuple[Tensor, Tensor]]) -> None:
        """Copy a prefilled row into the slot after the last.

        prompt: keys and values of each layer, [1, heads, length, head size].
        """
        if not self.layers:
            self.layers = [KvLayer(keys, values) for keys, values in prompt]
        row, length = len(self.lengths), prompt[0][0].shape[2]
        self._fit(row + 1, max(self.width, length))
        for layer, (keys, values) in zip(self.layers, prompt, strict=True):
            layer.join(row, keys, values)
        self.lengths.append(length)

    def leave(self, row: int) -> None:
        """Free the slot of a row; the last row moves into it."""
        last = len(self.lengths) - 1
        if row != last:
            for layer in self.layers:
                layer.move(last, row)
            self.lengths[row] = self.lengths[last]
        self.lengths.pop()

    def begin_step(self) -> Tensor:
        """Prepare a step, in which `update` writes the column after each row's last.

        Returns where each row may attend, the new column included: [rows, columns] bool, on the
        first layer's device.
        """
        rows, width = len(self.lengths), self.width + 1
        self._fit(rows, width)
        lengths = torch.tensor(self.lengths)

        @functools.cache
        def places(device: torch.device, heads: int, columns: int) -> Tensor:
            """[rows * heads], of the new columns, in `[slots * heads * columns, head size]`."""
            heads_of_rows = torch.arange(rows * heads).view(rows, heads)
            new_columns = heads_of_rows * columns + lengths[:, None]
            return new_columns.flatten().to(device, non_blocking=True)

        for layer in self.layers:
            keys, values = (
                places(slots.device, slots.shape[1], slots.shape[2])
                for slots in (layer.keys, layer.values)
            )
            layer.begin_step(keys, values, width)
        device = self.layers[0].keys.device
        ends = lengths.to(device, non_blocking=True)
        return torch.arange(width, device=device) <= ends[:, None]

    def end_step(self) -> None:
        """End a step: what was written in the new columns stays."""
        self.lengths = [length + 1 for length in self.lengths]

    def release(self) -> None:
        """Drop all rows and free their memory."""
        self.lengths = []
        for layer in self.layers:
            layer.release()

    def _fit(self, rows: int, columns: int) -> None:
        chunks = self._whole_chunks(rows, columns)
        for layer in self.layers:
            layer.fit((rows, columns), chunks, (len(self.lengths), self.width))

    def _whole_chunks(self, rows: int, columns: int) -> tuple[int, int]:
        return (
            -(-rows // self._row_chunk) * self._row_chunk,
            -(-columns // self._column_chunk) * self._column_chunk,
        )


class KvLayer(CacheLayerMixin):
    """The keys and values of one layer of a `KvCache`."""

    keys: Tensor
    values: Tensor

    def __init__(self, keys: Tensor, values: Tensor) -> None:
        """Make a layer without slots, with these tensors' heads, head size, dtype and device."""
        super().__init__()
        self.keys, self.values = (_slots(like, 0, 0) for like in (keys, values))
        self.is_initialized = True
        self._width = 0

    def join(self, row: int, keys: Tensor, values: Tensor) -> None:
        for slots, prompt in ((self.keys, keys), (self.values, values)):
            length = prompt.shape[2]
            slots[row, :, :length] = prompt[0]
            slots[row, :, length:] = 0

    def move(self, source: int, target: int) -> None:
        for slots in (self.keys, self.values):
            slots[target] = slots[source]

    def fit(self, needed: tuple[int, int], chunks: tuple[int, int], live: tuple[int, int]) -> None:
        """Grow the tensors if they are too small.

        All are (slots, columns): `needed` is the least, `chunks` the size of new tensors, `live`
        what is copied into them.
        """
        self.keys = _fitted(self.keys, needed, chunks, live)
        self.values = _fitted(self.values, needed, chunks, live)

    def begin_step(self, key_places: Tensor, value_places: Tensor, width: int) -> None:
        """Prepare a step. Places: where `update` writes, in `[slots * heads * columns, head size]`.

        width: columns of the longest row, the new one included.
        """
        self._key_places, self._value_places = key_places, value_places
        self._width = width

    def release(self) -> None:
        self.keys, self.values = (_slots(like, 0, 0) for like in (self.keys, self.values))
        self._width = 0

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Write a column a row, [rows, heads, 1, head size]. Returns views of the live columns."""
        # Other ways to write a few scattered numbers wake all threads of a CPU (index_put_) or copy
        # the whole cache if it is bfloat16 (scatter_).
        _flat(self.keys).index_copy_(0, self._key_places, _flat(key_states))
        _flat(self.values).index_copy_(0, self._value_places, _flat(value_states))
        rows = len(key_states)
        return self.keys[:rows, :, : self._width], self.values[:rows, :, : self._width]

    def get_seq_length(self) -> int:
        return max(self._width - 1, 0)

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self._width, 0

    def get_max_length(self) -> int:
        return -1

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Does nothing; the library's base class requires it."""


def _flat(tensor: Tensor) -> Tensor:
    return tensor.reshape(-1, tensor.shape[-1])


def _slots(like: Tensor, rows: int, columns: int) -> Tensor:
    return like.new_zeros(rows, like.shape[1], columns, like.shape[3])


def _fitted(
    tensor: Tensor, needed: tuple[int, int], chunks: tuple[int, int], live: tuple[int, int]
) -> Tensor:
    if tensor.shape[0] >= needed[0] and tensor.shape[2] >= needed[1]:
        return tensor
    fitted = _slots(tensor, *chunks)
    rows, columns = live
    fitted[:rows, :, :columns] = tensor[:rows, :, :columns]
    return fitted
