"""Attention on a CPU: one call for each piece of the cache, over a row's own columns."""

from collections.abc import Sequence

import torch
from torch import Tensor

from runners.decoder.attention.interface import Attention
from runners.decoder.kv_pool import KvPool
from runners.decoder.part import Part

_flash = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
"""What PyTorch's `scaled_dot_product_attention` runs on a CPU. It takes fewer key-value heads than
heads, and returns the logarithm of the sum of the exponentials beside the result."""

Piece = tuple[int, int]
"""Columns of the pool that lie in one: the first, and the one after the last."""


class RowAttention(Attention):
    """Reads the cache in place: no column beyond a row's own, no mask, no copy.

    Blocks that lie side by side are read as one piece, and a piece that rows share is read once for
    all of them. The results for several pieces are merged by the sums of their exponentials, as in
    FlashAttention's online softmax (Dao et al., 2022).
    """

    def __init__(self, pool: KvPool, parts: Sequence[Part], scale: float) -> None:
        super().__init__(pool, parts, scale)
        _, column, head, number = pool.keys[0].stride()
        self._strides = head, column, number
        self._slices: list[tuple[int, Part]] = []
        """Parts of several tokens, each with the index of its first."""
        tokens: list[int] = []
        readers: dict[Piece, list[int]] = {}
        first = 0
        for part in parts:
            if part.count == 1:
                for piece in part.runs(part.end, pool.block_size):
                    readers.setdefault(piece, []).append(len(tokens))
                tokens.append(first)
            else:
                self._slices.append((first, part))
            first += part.count
        self._tokens = torch.tensor(tokens)
        """Indices of the single tokens, each of which sees all columns, its own included."""
        self._readers = {
            piece: (own[0], torch.tensor(own) if len(own) > 1 else None)
            for piece, own in readers.items()
        }
        """The first reader of each piece among the single tokens, and all if there are several."""
        self._order = torch.tensor([token for own in readers.values() for token in own])
        """The readers of all pieces in turn."""
        self._is_one_each = self._order.tolist() == list(range(len(tokens)))

    def attend(self, layer: int, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        if not self._slices:
            return self._attend_tokens(layer, queries)
        attended = torch.empty_like(queries)
        if len(self._tokens):
            alone = self._attend_tokens(layer, queries.index_select(0, self._tokens))
            attended.index_copy_(0, self._tokens, alone)
        for first, part in self._slices:
            own = slice(first, first + part.count)
            states = (states[own] for states in (queries, keys, values))
            attended[own] = self._attend_slice(layer, part, *states)
        return attended

    def _attend_tokens(self, layer: int, queries: Tensor) -> Tensor:
        """Attends for tokens of different rows, [tokens, heads, head size], as it returns them."""
        found = [
            self._read(layer, piece, queries[first : first + 1])
            if several is None
            else self._read_together(layer, piece, queries.index_select(0, several))
            for piece, (first, several) in self._readers.items()
        ]
        results = torch.cat([result for result, _ in found])
        if self._is_one_each:
            return results
        order = self._order
        sums = torch.cat([logarithms for _, logarithms in found])
        most = sums.new_full(queries.shape[:2], -torch.inf)
        most.scatter_reduce_(0, order[:, None].expand_as(sums), sums, "amax")
        shares = (sums - most.index_select(0, order)).exp_()
        whole = torch.zeros_like(most).index_add_(0, order, shares)
        merged = shares.new_zeros(queries.shape)
        merged.index_add_(0, order, results * shares[..., None])
        return (merged / whole[..., None]).to(queries.dtype)

    def _read(self, layer: int, piece: Piece, query: Tensor) -> tuple[Tensor, Tensor]:
        """What a token finds in a piece, [1, heads, head size], and the logarithms of the sums,
        [1, heads]."""
        _, heads, size = query.shape
        # In bfloat16 each head would copy its keys and values first, so that the heads that share
        # them are so many queries of one head. In float32 that would be slower.
        apart = heads if query.dtype == torch.float32 else self.pool.shape.heads
        result, sums = self._flash(layer, query.view(1, apart, -1, size), piece)
        return result.reshape(1, heads, size), sums.reshape(1, heads)

    def _read_together(self, layer: int, piece: Piece, queries: Tensor) -> tuple[Tensor, Tensor]:
        """The same of several tokens, which are so many queries more."""
        (count, heads, size), shared = queries.shape, self.pool.shape.heads
        grouped = queries.view(count, shared, -1, size).transpose(0, 1)
        result, sums = self._flash(layer, grouped.reshape(1, shared, -1, size), piece)
        apart = (shared, count, heads // shared)
        return (
            result.reshape(*apart, size).transpose(0, 1).reshape(count, heads, size),
            sums.reshape(apart).transpose(0, 1).reshape(count, heads),
        )

    def _attend_slice(
        self, layer: int, part: Part, queries: Tensor, keys: Tensor, values: Tensor
    ) -> Tensor:
        """All [tokens, heads, head size]; keys and values with fewer heads."""
        queries, keys, values = (states.transpose(0, 1)[None] for states in (queries, keys, values))
        pieces = part.runs(part.start, self.pool.block_size) if part.start else ()
        found = [self._flash(layer, queries, piece) for piece in pieces]
        found.append(_flash(queries, keys, values, is_causal=True, scale=self.scale))
        if len(found) == 1:
            return found[0][0][0].transpose(0, 1)
        results, sums = (torch.stack(parts) for parts in zip(*found, strict=True))
        merged = (results * sums.softmax(0)[..., None]).sum(0)
        return merged[0].transpose(0, 1).to(queries.dtype)

    def _flash(self, layer: int, queries: Tensor, piece: Piece) -> tuple[Tensor, Tensor]:
        """Attends over all columns of a piece. queries: [1, heads, queries, head size]."""
        shape, (first, last) = self.pool.shape, piece
        size = (1, shape.heads, last - first, shape.head_size)
        # One operation where slicing and transposing would be three, for each row in each layer.
        keys, values = (
            blocks.as_strided(size, (0, *self._strides), first * self._strides[1])
            for blocks in (self.pool.keys[layer], self.pool.values[layer])
        )
        result, sums = _flash(queries, keys, values, scale=self.scale)
        return result, sums
