"""Attention on a CPU: one call a row, over that row's own columns."""

import torch
from torch import Tensor

from runners.decoder.attention.interface import Attention
from runners.decoder.part import Part

_flash = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
"""What PyTorch's `scaled_dot_product_attention` runs on a CPU. It takes fewer key-value heads than
heads, and returns the logarithm of the sum of the exponentials beside the result."""


class RowAttention(Attention):
    """Reads the cache in place: no column beyond a row's own, no mask, no copy.

    Blocks that lie side by side are read as one piece. The results for several pieces are merged by
    the sums of their exponentials, as in FlashAttention's online softmax (Dao et al., 2022).
    """

    def attend(self, layer: int, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        attended = torch.empty_like(queries)
        first = 0
        for part in self.parts:
            own = slice(first, first + part.count)
            states = [states[own].transpose(0, 1)[None] for states in (queries, keys, values)]
            rows = self._attend_row(layer, part, *states)
            attended[own] = rows[0].transpose(0, 1)
            first += part.count
        return attended

    def _attend_row(
        self, layer: int, part: Part, queries: Tensor, keys: Tensor, values: Tensor
    ) -> Tensor:
        """All [1, heads, tokens, head size]."""
        pool_keys, pool_values = (
            tensors[layer].flatten(0, 1) for tensors in (self.pool.keys, self.pool.values)
        )
        # A single token sees all columns, its own included, so that they are one piece less.
        is_single = part.count == 1
        seen = part.end if is_single else part.start
        pieces = [
            _flash(
                queries,
                pool_keys[first:last].transpose(0, 1)[None],
                pool_values[first:last].transpose(0, 1)[None],
                scale=self.scale,
            )
            for first, last in (part.runs(seen, self.pool.block_size) if seen else ())
        ]
        if not is_single:
            pieces.append(_flash(queries, keys, values, is_causal=True, scale=self.scale))
        return pieces[0][0] if len(pieces) == 1 else _merged(pieces)


def _merged(pieces: list[tuple[Tensor, Tensor]]) -> Tensor:
    """The attention over all pieces, from each piece's result and logarithm of its sum."""
    results, sums = (torch.stack(parts) for parts in zip(*pieces, strict=True))
    shares = sums.softmax(0)[..., None]
    return (results * shares).sum(0).to(results.dtype)
