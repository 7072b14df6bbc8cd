"""One layer of a decoder of the Qwen2 and Qwen3 kind, with joined products."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from runners.decoder.attention.interface import Attention
from runners.decoder.kv_pool import KvShape
from runners.decoder.projection import join

Rotary = tuple[Tensor, Tensor]
"""Cosines and signed sines of the tokens' angles, [tokens, 1, head size]; see `rotate`."""


class Layer(nn.Module):
    """Attention and feed-forward network over the hidden states of packed tokens.

    It takes its weights out of a layer of the transformers library (Qwen2, Qwen2-VL, Qwen3-VL),
    which cannot be used afterwards. Queries, keys and values are one product, gate and up another.
    """

    def __init__(self, source: nn.Module) -> None:
        super().__init__()
        attention, mlp = source.self_attn, source.mlp
        self.head_size: int = attention.head_dim
        self.kv_heads: int = attention.k_proj.out_features // self.head_size
        self.heads: int = attention.q_proj.out_features // self.head_size
        self.scale: float = attention.scaling
        self.norms = [_norm_of(source.input_layernorm), _norm_of(source.post_attention_layernorm)]
        self.head_norm = self._head_norm_of(attention)
        self.qkv = join([attention.q_proj, attention.k_proj, attention.v_proj])
        self.output = join([attention.o_proj])
        del attention.q_proj, attention.k_proj, attention.v_proj, attention.o_proj
        self.gate_up = join([mlp.gate_proj, mlp.up_proj])
        self.down = join([mlp.down_proj])
        del mlp.gate_proj, mlp.up_proj, mlp.down_proj
        self.activation = mlp.act_fn

    @property
    def device(self) -> torch.device:
        return self.norms[0][0].device

    @property
    def kv_shape(self) -> KvShape:
        return KvShape(self.kv_heads, self.head_size, self.norms[0][0].dtype)

    def forward(self, hidden: Tensor, rotary: Rotary, attention: Attention, index: int) -> Tensor:
        """hidden: [tokens, hidden size], which it may overwrite. index: of this layer."""
        states = self.qkv(_normed(hidden, self.norms[0])).unflatten(-1, (-1, self.head_size))
        turned, values = states.split([self.heads + self.kv_heads, self.kv_heads], 1)
        if self.head_norm is not None:
            weight, epsilon = self.head_norm
            # All heads in one piece: the norm of a part of the heads would copy them first.
            turned = F.rms_norm(states, (self.head_size,), None, epsilon)[:, : len(weight)] * weight
        queries, keys = rotate(turned, rotary).split([self.heads, self.kv_heads], 1)
        attended = attention(index, queries, keys, values)
        hidden = hidden + self.output(attended.flatten(1))
        gate, up = self.gate_up(_normed(hidden, self.norms[1])).chunk(2, -1)
        return hidden + self.down(self.activation(gate).mul_(up))

    def _head_norm_of(self, attention: nn.Module) -> tuple[Tensor, float] | None:
        """The weights of the norms of queries and keys, [heads, head size], if there are any."""
        if not hasattr(attention, "q_norm"):
            return None
        (queries, epsilon), (keys, _) = map(_norm_of, (attention.q_norm, attention.k_norm))
        rows = [queries.expand(self.heads, -1), keys.expand(self.kv_heads, -1)]
        return torch.cat(rows), epsilon


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


def _norm_of(norm: nn.Module) -> tuple[Tensor, float]:
    return norm.weight, norm.variance_epsilon


def _normed(hidden: Tensor, norm: tuple[Tensor, float]) -> Tensor:
    weight, epsilon = norm
    return F.rms_norm(hidden, weight.shape, weight, epsilon)
