"""One layer of a decoder of the Qwen2 and Qwen3 kind, with joined products."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from runners.decoder.attention.interface import Attention
from runners.decoder.kv_pool import KvShape
from runners.decoder.projection import add_product, join

Rotary = tuple[Tensor, Tensor]
"""Cosines and signed sines of the tokens' angles, [tokens, 1, head size]; see `rotate`."""


class Layer(nn.Module):
    """Attention and feed-forward network over the hidden states of packed tokens.

    It takes its weights out of a layer of the transformers library (Qwen2, Qwen2-VL, Qwen3-VL),
    which cannot be used afterwards. Queries, keys and values are one product, gate and up another.
    """

    head_weight: Tensor

    def __init__(self, source: Any) -> None:
        super().__init__()
        attention, mlp = source.self_attn, source.mlp
        self.head_size: int = attention.head_dim
        self.kv_heads: int = attention.k_proj.out_features // self.head_size
        self.heads: int = attention.q_proj.out_features // self.head_size
        self.scale: float = attention.scaling
        self.norm = source.input_layernorm
        self.mlp_norm = source.post_attention_layernorm
        self.head_epsilon: float | None = None
        if hasattr(attention, "q_norm"):
            weight = _of_heads(attention.q_norm, self.heads, attention.k_norm, self.kv_heads)
            self.register_buffer("head_weight", weight)
            self.head_epsilon = attention.q_norm.variance_epsilon
        self.qkv = join([attention.q_proj, attention.k_proj, attention.v_proj])
        self.output = join([attention.o_proj])
        del attention.q_proj, attention.k_proj, attention.v_proj, attention.o_proj
        self.gate_up = join([mlp.gate_proj, mlp.up_proj])
        self.down = join([mlp.down_proj])
        del mlp.gate_proj, mlp.up_proj, mlp.down_proj
        self.activation = mlp.act_fn

    @property
    def device(self) -> torch.device:
        return self.norm.weight.device

    @property
    def kv_shape(self) -> KvShape:
        return KvShape(self.kv_heads, self.head_size, self.norm.weight.dtype)

    def forward(self, hidden: Tensor, rotary: Rotary, attention: Attention, index: int) -> Tensor:
        """Returns hidden states [tokens, hidden size], as it takes them, and may overwrite those.

        index: of this layer.
        """
        states = self.qkv(normed(hidden, self.norm)).unflatten(-1, (-1, self.head_size))
        turned, values = states.split([self.heads + self.kv_heads, self.kv_heads], 1)
        if self.head_epsilon is not None:
            # All heads in one piece: the norm of a part of the heads would copy them first.
            every = F.rms_norm(states, (self.head_size,), None, self.head_epsilon)
            turned = every[:, : len(self.head_weight)] * self.head_weight
        queries, keys = rotate(turned, rotary).split([self.heads, self.kv_heads], 1)
        attended = attention(index, queries, keys, values)
        hidden = add_product(hidden, self.output, attended.flatten(1))
        gate, up = self.gate_up(normed(hidden, self.mlp_norm)).chunk(2, -1)
        return add_product(hidden, self.down, self.activation(gate).mul_(up))


def rotate(states: Tensor, rotary: Rotary) -> Tensor:
    """Rotary positions (Su et al., "RoFormer", 2021). states: [tokens, heads, head size].

    Where the library computes `states * cos + rotate_half(states) * sin`, the sign of the first
    half is in the sines here, and turning half of the head size is `roll`.
    """
    cosines, sines = rotary
    return torch.addcmul(states * cosines, states.roll(states.shape[-1] // 2, -1), sines)


def rotary_of(cosines: Tensor, sines: Tensor) -> Rotary:
    """The arguments of `rotate` from the library's cosines and sines, [1, tokens, head size]."""
    half = sines.shape[-1] // 2
    signed = torch.cat([-sines[..., :half], sines[..., half:]], -1)
    return cosines[0, :, None], signed[0, :, None]


def normed(hidden: Tensor, norm: Any) -> Tensor:
    """Root-mean-square norm (Zhang and Sennrich, 2019), in one operation on a GPU.

    norm: the library's, whose own forward takes eight.
    """
    return F.rms_norm(hidden, norm.weight.shape, norm.weight, norm.variance_epsilon)


def _of_heads(query_norm: Any, heads: int, key_norm: Any, kv_heads: int) -> Tensor:
    """The weights of the norms of queries and keys, [heads + key-value heads, head size]."""
    rows = [query_norm.weight.expand(heads, -1), key_norm.weight.expand(kv_heads, -1)]
    return torch.cat(rows).detach()
