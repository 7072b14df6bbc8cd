"""Chooses the attention for a device and a data type."""

import torch

from runners.decoder.attention import varlen
from runners.decoder.attention.gathered import GatheredAttention
from runners.decoder.attention.interface import Attention
from runners.decoder.attention.rows import RowAttention
from runners.decoder.attention.varlen import VarlenAttention

BLOCK_SIZE = 256
"""Columns of a block. FlashAttention-2 takes multiples of this; a CPU reads a row in few pieces."""


def choose_attention(device: torch.device, dtype: torch.dtype) -> type[Attention]:
    """The attention of a prefill, and on a CPU of a step as well."""
    if device.type == "cpu":
        return RowAttention
    has_blocks = varlen.is_available(device, dtype) and varlen.takes_blocks()
    return VarlenAttention if has_blocks else GatheredAttention
