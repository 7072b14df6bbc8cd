"""The language model of every family: hidden states of packed tokens to logits."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from accelerate.hooks import remove_hook_from_module
from torch import Tensor, nn

from runners.decoder.attention.interface import Attention, OnDevices
from runners.decoder.kv_pool import KvPool
from runners.decoder.layer import Layer
from runners.decoder.operations import rotary_of
from runners.decoder.projection import Joined, join


@dataclass(frozen=True)
class Added:
    """What is added to the hidden states of some tokens after the first layers (Qwen3-VL)."""

    places: Tensor
    """[visual tokens] int64, indices of packed tokens."""
    layers: Sequence[Tensor]
    """For each of the first layers [visual tokens, hidden size]."""


class Decoder(nn.Module):
    """A decoder of the Qwen2 and Qwen3 kind: all models of the catalog have one.

    It takes the layers out of a model of the transformers library, which keeps the vision tower and
    the embeddings. The library's own decoder computes one batch of padded rows, in three times as
    many operations; here the tokens of rows of any length are packed one after the other, and the
    attention knows which row they are of.
    """

    def __init__(self, model: Any) -> None:
        """Take the decoder out of a model of the library, whose forward fails afterwards."""
        super().__init__()
        source = getattr(model.model, "language_model", model.model)
        layers, source.layers = source.layers, nn.ModuleList()
        # Where a model is spread over several GPUs, accelerate's hooks move what its modules take.
        # Each is a reference cycle, which would keep the weights that are joined here.
        for module in (*layers, model.lm_head):
            remove_hook_from_module(module, recurse=True)
        self.layers = nn.ModuleList(Layer(layer) for layer in layers)
        self.embedding: nn.Embedding = source.embed_tokens
        self.norm = source.norm
        self.rotary: nn.Module = source.rotary_emb
        self.head = model.lm_head = join([model.lm_head])
        self._head_device = next(
            tensor.device for tensor in (*self.head.parameters(), *self.head.buffers())
        )
        self.position_axes = 3 if hasattr(self.rotary, "mrope_section") else 1
        """How many position indices a token has: with images Qwen's have time, height and width."""

    @property
    def is_quantised(self) -> bool:
        """Whether its weights are quantised. Products of such weights may wait for the GPU, which
        a CUDA graph cannot."""
        return any(isinstance(module, Joined) for module in self.modules())

    @property
    def scale(self) -> float:
        """What attention multiplies its products with."""
        return self._layers[0].scale

    def make_pool(self, block_size: int) -> KvPool:
        """An empty KV cache for its layers."""
        devices = [layer.device for layer in self._layers]
        return KvPool(self._layers[0].kv_shape, devices, block_size)

    @property
    def _layers(self) -> list[Layer]:
        return cast("list[Layer]", list(self.layers))

    def forward(
        self,
        hidden: Tensor,
        positions: Tensor,
        attention: Attention,
        wanted: Tensor | None = None,
        added: Added | None = None,
    ) -> Tensor:
        """Compute packed tokens. Returns logits [tokens or wanted tokens, vocabulary].

        The layers may be on several devices; the logits are on the first.

        hidden: [tokens, hidden size], their embeddings. positions: [axes, tokens] int64, axes as
        the model's rotary embedding takes them. wanted: indices of the tokens whose logits are
        wanted.
        """
        rotary = self.rotary(hidden, positions if len(positions) == 1 else positions[:, None])
        cosines, sines = map(OnDevices, rotary_of(*rotary))
        for index, layer in enumerate(self._layers):
            if hidden.device != layer.device:
                hidden = hidden.to(layer.device, non_blocking=True)
            turns = (cosines.on(hidden.device), sines.on(hidden.device))
            hidden = layer(hidden, turns, attention, index)
            if added is not None and index < len(added.layers):
                places = added.places.to(hidden.device, non_blocking=True)
                hidden.index_add_(0, places, added.layers[index].to(hidden))
        if wanted is not None:
            hidden = hidden.index_select(0, wanted.to(hidden.device, non_blocking=True))
        hidden = self._layers[0].operations.norm(hidden.to(self.norm.weight.device), self.norm)
        logits: Tensor = self.head(hidden.to(self._head_device))
        return logits.to(self.embedding.weight.device)


def last_tokens(counts: Sequence[int]) -> Tensor:
    """The index of the last of each part's packed tokens, of which each part has so many."""
    return torch.tensor(counts).cumsum(0) - 1
