"""Attention of single tokens on a CPU with PyTorch's kernel, a call for each piece of the cache."""

from collections.abc import Sequence

import torch
from torch import Tensor

from runners.decoder.kv_pool import KvPool
from runners.decoder.part import Part

flash = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
"""What PyTorch's `scaled_dot_product_attention` runs on a CPU. It takes fewer key-value heads than
heads, and returns the logarithm of the sum of the exponentials beside the result."""

Piece = tuple[int, int]
"""Columns of the pool that lie in one: the first, and the one after the last."""


def attend_piece(
    pool: KvPool, layer: int, queries: Tensor, piece: Piece, scale: float
) -> tuple[Tensor, Tensor]:
    """Attends over all columns of a piece. queries: [1, heads, queries, head size]."""
    shape, (first, last) = pool.shape, piece
    size = (1, shape.heads, last - first, shape.head_size)
    # One operation where slicing and transposing would be three, for each row in each layer. The
    # strides of keys and values differ where memory ran out while the pool grew.
    keys, values = (
        blocks.as_strided(size, (0, head, column, number), first * column)
        for blocks in (pool.keys[layer], pool.values[layer])
        for _, column, head, number in (blocks.stride(),)
    )
    result, sums = flash(queries, keys, values, scale=scale)
    return result, sums


class FlashTokens:
    """Attends for tokens of different rows, each of which sees all columns, its own included.

    A piece that rows share is read once for all of them. The results for several pieces are merged
    by the sums of their exponentials, as in FlashAttention's online softmax (Dao et al., 2022).
    """

    def __init__(self, pool: KvPool, parts: Sequence[Part], scale: float) -> None:
        """parts: of one token each."""
        self._pool = pool
        self._scale = scale
        readers: dict[Piece, list[int]] = {}
        for token, part in enumerate(parts):
            for piece in part.runs(part.end, pool.block_size):
                readers.setdefault(piece, []).append(token)
        self._readers = {
            piece: (own[0], torch.tensor(own) if len(own) > 1 else None)
            for piece, own in readers.items()
        }
        """The first reader of each piece, and all if there are several."""
        self._order = torch.tensor([token for own in readers.values() for token in own])
        """The readers of all pieces in turn."""
        self._is_one_each = self._order.tolist() == list(range(len(parts)))

    def attend(self, layer: int, queries: Tensor) -> Tensor:
        """queries: [tokens, heads, head size]. Returns the same shape, contiguous."""
        queries = queries.contiguous()
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
        apart = heads if query.dtype == torch.float32 else self._pool.shape.heads
        query = query.view(1, apart, -1, size)
        result, sums = attend_piece(self._pool, layer, query, piece, self._scale)
        return result.reshape(1, heads, size), sums.reshape(1, heads)

    def _read_together(self, layer: int, piece: Piece, queries: Tensor) -> tuple[Tensor, Tensor]:
        """The same of several tokens, which are so many queries more."""
        (count, heads, size), shared = queries.shape, self._pool.shape.heads
        grouped = queries.view(count, shared, -1, size).transpose(0, 1)
        grouped = grouped.reshape(1, shared, -1, size)
        result, sums = attend_piece(self._pool, layer, grouped, piece, self._scale)
        apart = (shared, count, heads // shared)
        return (
            result.reshape(*apart, size).transpose(0, 1).reshape(count, heads, size),
            sums.reshape(apart).transpose(0, 1).reshape(count, heads),
        )
