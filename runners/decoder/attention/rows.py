"""Attention on a CPU, over each row's own columns."""

from collections.abc import Sequence

import torch
from torch import Tensor

from runners.decoder.attention.compiled_tokens import CompiledTokens, kernel_for
from runners.decoder.attention.interface import Attention
from runners.decoder.attention.tokens import FlashTokens, attend_piece, flash
from runners.decoder.kv_pool import KvPool
from runners.decoder.part import Part


class RowAttention(Attention):
    """Reads the cache in place: no column beyond a row's own, no mask, no copy.

    Blocks that lie side by side are read as one piece. Tokens that are the only one of their row,
    as in a decode step, are attended for together.
    """

    def __init__(self, pool: KvPool, parts: Sequence[Part], scale: float) -> None:
        super().__init__(pool, parts, scale)
        self._slices: list[tuple[int, Part]] = []
        """Parts of several tokens, each with the index of its first."""
        alone: list[tuple[int, Part]] = []
        first = 0
        for part in parts:
            (alone if part.count == 1 else self._slices).append((first, part))
            first += part.count
        self._indices = torch.tensor([index for index, _ in alone])
        """Of the single tokens."""
        self._tokens = self._attention_of([part for _, part in alone]) if alone else None

    def attend(self, layer: int, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        if not self._slices and self._tokens:
            return self._tokens.attend(layer, queries)
        attended = torch.empty_like(queries, memory_format=torch.contiguous_format)
        if self._tokens:
            alone = self._tokens.attend(layer, queries.index_select(0, self._indices))
            attended.index_copy_(0, self._indices, alone)
        for first, part in self._slices:
            own = slice(first, first + part.count)
            states = (states[own] for states in (queries, keys, values))
            attended[own] = self._attend_slice(layer, part, *states)
        return attended

    def _attention_of(self, tokens: Sequence[Part]) -> CompiledTokens | FlashTokens:
        if kernel := kernel_for(self.pool):
            return CompiledTokens(kernel, self.pool, tokens, self.scale)
        return FlashTokens(self.pool, tokens, self.scale)

    def _attend_slice(
        self, layer: int, part: Part, queries: Tensor, keys: Tensor, values: Tensor
    ) -> Tensor:
        """All [tokens, heads, head size]; keys and values with fewer heads."""
        queries, keys, values = (states.transpose(0, 1)[None] for states in (queries, keys, values))
        pieces = part.runs(part.start, self.pool.block_size) if part.start else ()
        found = [attend_piece(self.pool, layer, queries, piece, self.scale) for piece in pieces]
        found.append(flash(queries, keys, values, is_causal=True, scale=self.scale))
        if len(found) == 1:
            return found[0][0][0].transpose(0, 1)
        results, sums = (torch.stack(parts) for parts in zip(*found, strict=True))
        merged = (results * sums.softmax(0)[..., None]).sum(0)
        return merged[0].transpose(0, 1).to(queries.dtype)
