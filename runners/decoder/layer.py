"""One layer of a decoder of the Qwen2 and Qwen3 kind, with joined products."""

from typing import Any

import torch
from torch import Tensor, nn

from runners.decoder.attention.interface import Attention
from runners.decoder.kv_pool import KvShape
from runners.decoder.operations import Rotary, choose_operations
from runners.decoder.projection import add_product, join


class Layer(nn.Module):
    """Attention and feed-forward network over the hidden states of packed tokens.

    It takes its weights out of a layer of the transformers library (Qwen2, Qwen2-VL, Qwen3-VL),
    which cannot be used afterwards. Queries, keys and values are one product, gate and up another.
    """

    head_weight: Tensor | None

    def __init__(self, source: Any) -> None:
        super().__init__()
        attention, mlp = source.self_attn, source.mlp
        self.head_size: int = attention.head_dim
        self.kv_heads: int = attention.k_proj.out_features // self.head_size
        self.heads: int = attention.q_proj.out_features // self.head_size
        self.scale: float = attention.scaling
        self.norm = source.input_layernorm
        self.mlp_norm = source.post_attention_layernorm
        weight, self.head_epsilon = None, 0.0
        if hasattr(attention, "q_norm"):
            weight = _of_heads(attention.q_norm, self.heads, attention.k_norm, self.kv_heads)
            self.head_epsilon = attention.q_norm.variance_epsilon
        self.register_buffer("head_weight", weight)
        self.qkv = join([attention.q_proj, attention.k_proj, attention.v_proj])
        self.output = join([attention.o_proj])
        del attention.q_proj, attention.k_proj, attention.v_proj, attention.o_proj
        self.gate_up = join([mlp.gate_proj, mlp.up_proj])
        self.down = join([mlp.down_proj])
        del mlp.gate_proj, mlp.up_proj, mlp.down_proj
        self.activation = mlp.act_fn
        self.operations = choose_operations(
            self.device,
            self.norm.weight.dtype,
            (self.norm.weight.numel(), mlp.intermediate_size),
            self.head_size,
            self.activation,
        )

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
        compute, with_positions = self.operations, self.heads + self.kv_heads
        states = self.qkv(compute.norm(hidden, self.norm))
        states = states.unflatten(-1, (-1, self.head_size))
        values = states[:, with_positions:]
        turned = compute.turn(states, with_positions, self.head_weight, self.head_epsilon, rotary)
        queries, keys = turned.split([self.heads, self.kv_heads], 1)
        attended = attention(index, queries, keys, values)
        hidden = add_product(hidden, self.output, attended.flatten(1))
        gates_and_ups = self.gate_up(compute.norm(hidden, self.mlp_norm))
        return add_product(hidden, self.down, compute.gate(gates_and_ups, self.activation))


def _of_heads(query_norm: Any, heads: int, key_norm: Any, kv_heads: int) -> Tensor:
    """The weights of the norms of queries and keys, [heads + key-value heads, head size]."""
    rows = [query_norm.weight.expand(heads, -1), key_norm.weight.expand(kv_heads, -1)]
    return torch.cat(rows).detach()
