"""Attention of single tokens on a CPU with this project's kernel: one call for all rows.

PyTorch has no kernel for rows of different lengths there. Calling its kernel for each row, as
`tokens.FlashTokens` does, takes about three times as long.
"""

from collections.abc import Sequence
from itertools import accumulate

import torch
from torch import Tensor

from runners.decoder.cpu_kernels.compiling import Kernel, find_kernel
from runners.decoder.kv_pool import KvPool
from runners.decoder.part import Part

_LANES, _MOST_SIZE = 16, 256
"""A head's size is a multiple of the first, and at most the second."""


def kernel_for(pool: KvPool) -> Kernel | None:
    """The kernel that takes the keys and values of a pool; None if there is none."""
    size = pool.shape.head_size
    if size % _LANES or size > _MOST_SIZE:
        return None
    return find_kernel("attend", pool.shape.dtype)


class CompiledTokens:
    """Attends for tokens of different rows, each of which sees all columns, its own included."""

    def __init__(self, kernel: Kernel, pool: KvPool, parts: Sequence[Part], scale: float) -> None:
        """kernel: of `kernel_for`. parts: of one token each."""
        self._kernel = kernel
        self._pool = pool
        self._scale = scale
        pieces = [list(part.runs(part.end, pool.block_size)) for part in parts]
        self._pieces = torch.tensor([piece for own in pieces for piece in own])
        """The pieces of all rows in turn, [pieces, 2]: first column, and column after the last."""
        self._first_pieces = torch.tensor(list(accumulate(map(len, pieces), initial=0)))
        """The index of each row's first piece, and the number of pieces, [tokens + 1]."""

    def attend(self, layer: int, queries: Tensor) -> Tensor:
        """queries: [tokens, heads, head size], each token's contiguous. Returns the same shape."""
        tokens, heads, size = queries.shape
        keys, values = self._pool.keys[layer], self._pool.values[layer]
        results = queries.new_empty(queries.shape)
        self._kernel(
            queries.data_ptr(),
            keys.data_ptr(),
            values.data_ptr(),
            results.data_ptr(),
            self._pieces.data_ptr(),
            self._first_pieces.data_ptr(),
            tokens,
            self._pool.shape.heads,
            heads // self._pool.shape.heads,
            size,
            queries.stride(0),
            keys.stride(2),
            values.stride(2),
            keys.stride(1),
            self._scale,
        )
        return results
