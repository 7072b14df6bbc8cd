"""A decode step whose operations are started one by one."""

from collections.abc import Sequence

import torch
from torch import Tensor

from runners.decoder.attention.choice import choose_attention
from runners.decoder.decoder import Decoder
from runners.decoder.kv_pool import KvPool
from runners.decoder.part import Part


class EagerStep:
    """For a CPU, for several GPUs, and where a step cannot be captured as a graph."""

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
