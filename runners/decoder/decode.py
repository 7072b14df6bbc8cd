"""A decode step: the newest token of every row to logits. On a GPU it is replayed as a graph."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from runners.decoder.decoder import Decoder
from runners.decoder.eager import EagerStep
from runners.decoder.graphs import GraphedStep
from runners.decoder.kv_pool import KvPool
from runners.decoder.part import Part

DecodeStep = Callable[[Sequence[int], Sequence[int], Sequence[Part]], Tensor]
"""Takes tokens, their position indices, and parts of one token each. Returns logits [rows,
vocabulary]."""


def make_decode_step(
    decoder: Decoder, pool: KvPool, device: torch.device, graphs: bool = True
) -> DecodeStep:
    """The fastest decode step for a device. graphs: whether CUDA graphs may be used."""
    if graphs and device.type == "cuda" and len({tensor.device for tensor in pool.keys}) == 1:
        return GraphedStep(decoder, pool, device)
    return EagerStep(decoder, pool, device)
