"""Attention on any device: copies each row's columns side by side, then attends."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from runners.decoder.attention.interface import Attention, OnDevices
from runners.decoder.kv_pool import KvPool
from runners.decoder.part import Part


class GatheredAttention(Attention):
    """For float32 on a GPU, which FlashAttention does not take, and for PyTorch before 2.12.

    One row at a time, because a prefill's rows differ in length by much.
    """

    def __init__(self, pool: KvPool, parts: Sequence[Part], scale: float) -> None:
        super().__init__(pool, parts, scale)
        self._columns = [
            OnDevices(torch.tensor(_columns_of(part, pool.block_size))) for part in parts
        ]

    def attend(self, layer: int, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        counts = [part.count for part in self.parts]
        return torch.cat(
            [
                self._attend_row(layer, part, own, columns.on(queries.device))
                for part, own, columns in zip(
                    self.parts, queries.split(counts), self._columns, strict=True
                )
            ]
        )

    def _attend_row(self, layer: int, part: Part, queries: Tensor, columns: Tensor) -> Tensor:
        keys, values = (
            tensors[layer].flatten(0, 1)[columns].transpose(0, 1)[None]
            for tensors in (self.pool.keys, self.pool.values)
        )
        is_slice = part.start > 0 and part.count > 1
        rows = F.scaled_dot_product_attention(
            queries.transpose(0, 1)[None],
            keys,
            values,
            attn_mask=_causal(part, queries.device) if is_slice else None,
            is_causal=part.start == 0 and part.count > 1,
            scale=self.scale,
            enable_gqa=True,
        )
        return rows[0].transpose(0, 1)


def attend_gathered(
    queries: Tensor, keys: Tensor, values: Tensor, table: Tensor, lengths: Tensor, scale: float
) -> Tensor:
    """One token of each row attends over the row's columns.

    queries: [rows, heads, head size]. keys, values: [blocks, block size, key-value heads, head
    size]. table: [rows, blocks a row], with any block where a row has no more. lengths: [rows], how
    many columns each row sees. Returns [rows, heads, head size]. All shapes are fixed, so that a
    CUDA graph can replay it.
    """
    seen_keys, seen_values = (
        blocks[table].flatten(1, 2).transpose(1, 2) for blocks in (keys, values)
    )
    columns = torch.arange(seen_keys.shape[2], device=queries.device)
    hidden = columns >= lengths[:, None]
    # A masked column has the weight zero, but zero times NaN is NaN.
    for seen in (seen_keys, seen_values):
        seen.masked_fill_(hidden[:, None, :, None], 0)
    attended = F.scaled_dot_product_attention(
        queries[:, :, None],
        seen_keys,
        seen_values,
        attn_mask=~hidden[:, None, None],
        scale=scale,
        enable_gqa=True,
    )
    return attended[:, :, 0]


def _columns_of(part: Part, block_size: int) -> list[int]:
    return [
        part.blocks[column // block_size] * block_size + column % block_size
        for column in range(part.end)
    ]


def _causal(part: Part, device: torch.device) -> Tensor:
    """[tokens, columns], true where a token may look."""
    columns = torch.arange(part.end, device=device)
    return columns <= columns[part.start :, None]
