"""A decode step: the newest token of every row to logits. On a GPU it is replayed as a graph."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from runners.decoder.attention.choice import choose_attention
from runners.decoder.decoder import Decoder
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


class EagerStep:
    """A decode step whose operations are started one by one."""

    def __init__(self, decoder: Decoder, pool: KvPool, device: torch.device) -> None:
        self._decoder = decoder
        self._pool = pool
        self._device = device
        self._attention = choose_attention(device, pool.shape.dtype)

    def __call__(
        self, tokens: Sequence[int], positions: Sequence[int], parts: Sequence[Part]
    ) -> Tensor:
        numbers = torch.tensor([tokens, positions]).to(self._device, non_blocking=True)
        logits: Tensor = self._decoder(
            self._decoder.embedding(numbers[0]),
            numbers[1].expand(self._decoder.position_axes, -1),
            self._attention(self._pool, parts, self._decoder.scale),
        )
        return logits
