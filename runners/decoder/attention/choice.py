"""Chooses the attention for a device and a data type."""

import torch

from runners.decoder.attention import varlen
from runners.decoder.attention.gathered import GatheredAttention
from runners.decoder.attention.interface import Attention
from runners.decoder.attention.rows import RowAttention
from runners.decoder.attention.varlen import VarlenAttention

_CPU_BLOCK_SIZE = 64
"""Columns. Small blocks waste little of a CPU's memory; runs of them are read as one piece."""


def choose_attention(device: torch.device, dtype: torch.dtype) -> tuple[type[Attention], int]:
    """The attention of a prefill, and the columns of a block."""
    if device.type == "cpu":
        return RowAttention, _CPU_BLOCK_SIZE
    if varlen.takes_blocks(dtype):
        return VarlenAttention, varlen.BLOCK_SIZE
    return GatheredAttention, varlen.BLOCK_SIZE
