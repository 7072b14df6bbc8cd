"""Small decoders of the library, and packed rows for them."""

import copy
from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import Qwen2Config, Qwen2ForCausalLM, Qwen3Config, Qwen3ForCausalLM

from runners.decoder.decoder import Decoder
from runners.decoder.kv_pool import KvPool
from runners.decoder.part import Part

SIZES = {
    "vocab_size": 256,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "initializer_range": 0.2,
    "pad_token_id": 0,
    "bos_token_id": None,
    "eos_token_id": 3,
}
BLOCK_SIZE = 8


def library_model(kind: str = "qwen2", **changes) -> Qwen2ForCausalLM | Qwen3ForCausalLM:
    """With random weights: `qwen2` has biases in its attention, `qwen3` norms of its heads."""
    torch.manual_seed(0)
    if kind == "qwen2":
        model = Qwen2ForCausalLM(Qwen2Config(**SIZES | changes))
    else:
        model = Qwen3ForCausalLM(Qwen3Config(**SIZES | changes))
    for name, parameter in model.named_parameters():
        if name.endswith(("norm.weight", "bias")):
            torch.nn.init.normal_(parameter, mean=1.0, std=0.2)
    return model.eval().requires_grad_(False)


def decoder_of(model: Qwen2ForCausalLM | Qwen3ForCausalLM) -> Decoder:
    """The decoder of a copy of the model."""
    return Decoder(copy.deepcopy(model))


def filled_pool(shape_of: Decoder, blocks: int = 40, block_size: int = BLOCK_SIZE) -> KvPool:
    """A pool whose blocks hold numbers, as if rows had left them."""
    pool = shape_of.make_pool(block_size)
    assert pool.resize(blocks, [])
    for tensor in (*pool.keys, *pool.values):
        tensor.normal_()
    return pool


def packed(rows: Sequence[Sequence[int]], parts: Sequence[Part]) -> tuple[Tensor, Tensor]:
    """The tokens [tokens] and positions [1, tokens] of the parts of rows."""
    tokens = [rows[i][part.start : part.end] for i, part in enumerate(parts)]
    positions = [list(range(part.start, part.end)) for part in parts]
    return torch.tensor(sum(map(list, tokens), [])), torch.tensor([sum(positions, [])])
