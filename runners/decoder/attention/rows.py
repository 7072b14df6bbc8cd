"""Attention on a CPU: one call a row, over that row's own columns."""

from collections.abc import Sequence

import torch
from torch import Tensor

from runners.decoder.attention.interface import Attention
from runners.decoder.kv_pool import KvPool
from runners.decoder.part import Part

_flash = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
"""What PyTorch's `scaled_dot_product_attention` runs on a CPU. It takes fewer key-value heads than
heads, and returns the logarithm of the sum of the exponentials beside the result."""


class RowAttention(Attention):
    """Reads the cache in place: no column beyond a row's own, no mask, no copy.

    Blocks that lie side by side are read as one piece. The results for several pieces are merged by
    the sums of their exponentials, as in FlashAttention's online softmax (Dao et al., 2022).
    """

    def __init__(self, pool: KvPool, parts: Sequence[Part], scale: float) -> None:
        super().__init__(pool, parts, scale)
        _, column, head, number = pool.keys[0].stride()
        self._strides = head, column, number
        # In bfloat16 each head copies its keys and values first, so that the heads that share them
        # are so many queries of one head. In float32 that would be slower.
        self._is_grouped = pool.shape.dtype != torch.float32
        # A single token sees all columns, its own included, so that they are one piece less.
        seen = [part.end if part.count == 1 else part.start for part in parts]
        self._pieces = [
            list(part.runs(columns, pool.block_size)) if columns else []
            for part, columns in zip(parts, seen, strict=True)
        ]

    def attend(self, layer: int, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        attended = []
        first = 0
        for part, pieces in zip(self.parts, self._pieces, strict=True):
            own = slice(first, first + part.count)
            first += part.count
            if part.count == 1:
                attended.append(self._attend_token(layer, queries[own], pieces))
            else:
                states = (states[own] for states in (queries, keys, values))
                attended.append(self._attend_slice(layer, pieces, *states))
        return torch.cat(attended)

    def _attend_token(self, layer: int, query: Tensor, pieces: Sequence[tuple[int, int]]) -> Tensor:
        """[1, heads, head size], as it returns it."""
        heads = self.pool.shape.heads if self._is_grouped else query.shape[1]
        states = query.view(1, heads, -1, query.shape[2])
        found = [
            _flash(states, *self._columns(layer, *piece), scale=self.scale) for piece in pieces
        ]
        return _merged(found).view(query.shape)

    def _attend_slice(
        self,
        layer: int,
        pieces: Sequence[tuple[int, int]],
        queries: Tensor,
        keys: Tensor,
        values: Tensor,
    ) -> Tensor:
        """All [tokens, heads, head size]; keys and values with fewer heads."""
        queries, keys, values = (states.transpose(0, 1)[None] for states in (queries, keys, values))
        found = [
            _flash(queries, *self._columns(layer, *piece), scale=self.scale) for piece in pieces
        ]
        found.append(_flash(queries, keys, values, is_causal=True, scale=self.scale))
        return _merged(found)[0].transpose(0, 1)

    def _columns(self, layer: int, first: int, last: int) -> tuple[Tensor, Tensor]:
        """Keys and values of columns of the pool, [1, heads, columns, head size]."""
        shape = self.pool.shape
        size = (1, shape.heads, last - first, shape.head_size)
        # One operation where slicing and transposing would be three, for each row in each layer.
        keys, values = (
            blocks.as_strided(size, (0, *self._strides), first * self._strides[1])
            for blocks in (self.pool.keys[layer], self.pool.values[layer])
        )
        return keys, values


def _merged(pieces: list[tuple[Tensor, Tensor]]) -> Tensor:
    """The attention over all pieces, from each piece's result and logarithm of its sum."""
    if len(pieces) == 1:
        return pieces[0][0]
    results, sums = (torch.stack(parts) for parts in zip(*pieces, strict=True))
    shares = sums.softmax(0)[..., None]
    return (results * shares).sum(0).to(results.dtype)
