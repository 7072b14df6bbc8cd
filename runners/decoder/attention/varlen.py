"""Attention on a GPU: FlashAttention over the blocks, as they lie."""

import inspect
from collections.abc import Sequence
from itertools import accumulate

import torch
from torch import Tensor
from torch.nn.attention import varlen

from runners.decoder.attention.interface import Attention, OnDevices
from runners.decoder.kv_pool import KvPool
from runners.decoder.part import Part

_OLDEST = (8, 0)
"""The compute capability of the oldest GPUs that FlashAttention runs on (Ampere)."""


def is_available(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether FlashAttention runs on this device with numbers of this type."""
    takes_type = device.type == "cuda" and dtype in (torch.float16, torch.bfloat16)
    return takes_type and torch.cuda.get_device_capability(device) >= _OLDEST


def takes_blocks() -> bool:
    """Whether PyTorch's variable-length attention takes blocks (2.12 and later)."""
    return "block_table" in inspect.signature(varlen.varlen_attn).parameters


class VarlenAttention(Attention):
    """All rows in one call. The last token of a part sees all columns up to its own."""

    def __init__(self, pool: KvPool, parts: Sequence[Part], scale: float) -> None:
        super().__init__(pool, parts, scale)
        self._longest_part = max(part.count for part in parts)
        self._longest_row = max(part.end for part in parts)
        self._layout = list(map(OnDevices, layout(parts, pool.block_size)))

    def attend(self, layer: int, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        starts, ends, lengths, table = (tensor.on(queries.device) for tensor in self._layout)
        longest = (self._longest_part, self._longest_row)
        blocks = self.pool.keys[layer], self.pool.values[layer]
        return attend_blocks(queries, *blocks, starts, ends, lengths, table, longest, self.scale)


def attend_blocks(
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    starts: Tensor,
    ends: Tensor,
    lengths: Tensor,
    table: Tensor,
    longest: tuple[int, int],
    scale: float,
) -> Tensor:
    """Tokens of each row attend over the row's columns, each up to its own.

    queries: [tokens, heads, head size]. keys, values: [blocks, block size, key-value heads, head
    size]. starts: [rows + 1] int32, where each row's tokens begin. ends: [rows + 1] int32, the sums
    of the rows' columns. lengths: [rows] int32, columns of each row. table: [rows, blocks a row]
    int32. longest: most tokens and most columns of a row.
    """
    # A single token sees all columns anyway. Without a window the kernel reads the columns of a
    # group of heads once, and splits long rows.
    window = (-1, -1) if longest[0] == 1 else (-1, 0)
    attended = varlen.varlen_attn(
        queries,
        keys,
        values,
        starts,
        ends,
        *longest,
        scale=scale,
        window_size=window,
        enable_gqa=True,
        seqused_k=lengths,
        block_table=table,
    )
    assert isinstance(attended, Tensor)  # it is a pair only where sums are asked for
    return attended


def attend_extents(
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    starts: Tensor,
    places: Tensor,
    lengths: Tensor,
    longest: int,
    scale: float,
) -> Tensor:
    """One token of each row attends over the row's columns, which lie in one piece.

    For PyTorch before 2.12. As `attend_blocks`, but keys and values are [columns, key-value heads,
    head size], and places [rows + 1] int32 says where each row's columns begin in them.
    """
    attended: Tensor = torch.ops.aten._flash_attention_forward(
        queries,
        keys,
        values,
        starts,
        places,
        1,
        longest,
        dropout_p=0.0,
        is_causal=False,
        return_debug_mask=False,
        scale=scale,
        seqused_k=lengths,
    )[0]
    return attended


def layout(parts: Sequence[Part], block_size: int) -> list[Tensor]:
    """The rows' starts, ends, lengths and table, as `attend_blocks` takes them, on the CPU."""
    rows = [list(part.blocks[: -(-part.end // block_size)]) for part in parts]
    width = max(map(len, rows))
    lengths = [part.end for part in parts]
    return [
        torch.tensor(numbers, dtype=torch.int32)
        for numbers in (
            [0, *accumulate(part.count for part in parts)],
            [0, *accumulate(lengths)],
            lengths,
            [row + [0] * (width - len(row)) for row in rows],
        )
    ]
