"""The KV cache of the rows in flight: preallocated, written in place, grown in chunks."""

import functools
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import Cache
from transformers.cache_utils import CacheLayerMixin


class RowCache(Cache):
    """Rows of different lengths, each from column 0 on, that join and leave between two steps.

    A layer is one tensor of keys and one of values, `[slots, heads, columns, head size]`. Rows 0 to
    n-1 are live. What is copied, and when:

    - a step: the new token's keys and values alone, one column a row, written at the row's own
      length; attention reads views of the live rows, as wide as the longest;
    - a row joins: its prompt, once; the rest of its slot is zeroed, for a masked column weighs
      nothing, but nothing times NaN is NaN;
    - a row leaves: the last row moves into its slot;
    - the rows no longer fit: each layer in turn moves into tensors of as many whole chunks as the
      live rows need, so once in `column_chunk` steps at most while nobody joins.

    `advance` ends a step; until then the same columns are written again, so that a step that failed
    can be repeated. The layers may lie on different devices.

    A model gets the mask of `open` as `[rows, 1, 1, columns]`. As `[rows, columns]` it is exact
    too: the library's causal mask starts from `get_seq_length`, the longest row's length.
    """

    def __init__(self, row_chunk: int = 4, column_chunk: int = 256) -> None:
        super().__init__(layers=[])
        self.layers: list[RowLayer] = []
        self.lengths: list[int] = []
        """Columns that each live row has filled."""
        self._row_chunk = row_chunk
        self._column_chunk = column_chunk

    @property
    def width(self) -> int:
        """Columns of the longest live row."""
        return max(self.lengths, default=0)

    @property
    def bytes_per_token(self) -> int:
        """Of one column of one row in all layers; 0 until the first row has joined."""
        return sum(
            tensor.shape[1] * tensor.shape[3] * tensor.element_size()
            for layer in self.layers
            for tensor in (layer.keys, layer.values)
        )

    @property
    def held_bytes(self) -> int:
        return sum(layer.keys.nbytes + layer.values.nbytes for layer in self.layers)

    def bytes_for(self, rows: int, columns: int) -> int:
        """What is held for `rows` rows when the longest has `columns` columns."""
        slots, capacity = self._whole_chunks(rows, columns)
        return slots * capacity * self.bytes_per_token

    def join(self, prompt: Sequence[tuple[Tensor, Tensor]]) -> None:
        """Copy a prefilled row in, as the last one.

        prompt: keys and values of each layer, [1, heads, length, head size].
        """
        if not self.layers:
            self.layers = [RowLayer(keys, values) for keys, values in prompt]
        row, length = len(self.lengths), prompt[0][0].shape[2]
        self._fit(row + 1, max(self.width, length))
        for layer, (keys, values) in zip(self.layers, prompt, strict=True):
            layer.join(row, keys, values)
        self.lengths.append(length)

    def leave(self, row: int) -> None:
        """Free the slot of `row`; the last row takes its place and its number."""
        last = len(self.lengths) - 1
        if row != last:
            for layer in self.layers:
                layer.move(last, row)
            self.lengths[row] = self.lengths[last]
        self.lengths.pop()

    def open(self) -> Tensor:
        """Prepare a step: `update` writes the column after each row's last.

        Returns where each row may look, the new column included: [rows, columns] bool, on the first
        layer's device.
        """
        rows, width = len(self.lengths), self.width + 1
        self._fit(rows, width)
        lengths = torch.tensor(self.lengths)

        @functools.cache
        def places(device: torch.device, heads: int, columns: int) -> Tensor:
            """[rows * heads], of the new columns in `[slots * heads * columns, head size]`."""
            heads_of_rows = torch.arange(rows * heads).view(rows, heads)
            open_columns = heads_of_rows * columns + lengths[:, None]
            return open_columns.flatten().to(device, non_blocking=True)

        for layer in self.layers:
            keys, values = (
                places(slots.device, slots.shape[1], slots.shape[2])
                for slots in (layer.keys, layer.values)
            )
            layer.open(keys, values, width)
        device = self.layers[0].keys.device
        ends = lengths.to(device, non_blocking=True)
        return torch.arange(width, device=device) <= ends[:, None]

    def advance(self) -> None:
        """The step is done: what was written in the open columns stays."""
        self.lengths = [length + 1 for length in self.lengths]

    def release(self) -> None:
        """Drop all rows and give their memory back."""
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


class RowLayer(CacheLayerMixin):
    """The keys and values of one layer of a `RowCache`."""

    keys: Tensor
    values: Tensor

    def __init__(self, keys: Tensor, values: Tensor) -> None:
        """No slot yet; heads, head size, dtype and device of `keys` and `values`."""
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
        """Slots and columns: those needed, those made where they lack, those kept."""
        self.keys = _fitted(self.keys, needed, chunks, live)
        self.values = _fitted(self.values, needed, chunks, live)

    def open(self, key_places: Tensor, value_places: Tensor, width: int) -> None:
        """Where `update` is to write, as rows of `[slots * heads * columns, head size]`.

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
        """Write one column a row ([rows, heads, 1, head size]); views of all live columns."""
        # Of the ways to write a few scattered numbers only this one neither wakes all threads of a
        # CPU (index_put_) nor copies the whole cache where it is bfloat16 (scatter_).
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
        """Nothing is lazy here, but the library asks for the method."""


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
