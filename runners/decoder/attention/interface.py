"""Defines what the decoder needs of an attention over a KV cache in blocks."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor

from runners.decoder.kv_pool import KvPool
from runners.decoder.part import Part, places


class Attention(ABC):
    """Attends for the tokens of one forward. Made anew for each; the layers call it in turn."""

    def __init__(self, pool: KvPool, parts: Sequence[Part], scale: float) -> None:
        """scale: of the products of queries and keys."""
        self.pool = pool
        self.parts = parts
        self.scale = scale
        self._places = OnDevices(torch.tensor(places(parts, pool.block_size)))

    def __call__(self, layer: int, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """Write the tokens' keys and values into the cache, and attend.

        queries: [tokens, heads, head size]; keys, values: [tokens, key-value heads, head size], of
        all parts in turn. A token sees the columns of its own row up to its own. Returns [tokens,
        heads, head size].
        """
        places = self.places_on(keys.device)
        # index_put_ wakes all threads of a CPU for a few numbers; scatter_ copies all of bfloat16.
        for tensor, new in ((self.pool.keys, keys), (self.pool.values, values)):
            tensor[layer].flatten(0, 1).index_copy_(0, places, new)
        return self.attend(layer, queries, keys, values)

    def places_on(self, device: torch.device) -> Tensor:
        """Where the tokens' keys and values go, [tokens] int64, in columns of the pool."""
        return self._places.on(device)

    @abstractmethod
    def attend(self, layer: int, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """As `__call__`, after the writing."""


class OnDevices:
    """A tensor, and its copies on the other devices that asked for it."""

    def __init__(self, tensor: Tensor) -> None:
        self._copies = {tensor.device: tensor}
        self._tensor = tensor

    def on(self, device: torch.device) -> Tensor:
        if device not in self._copies:
            self._copies[device] = self._tensor.to(device, non_blocking=True)
        return self._copies[device]
