"""Greedy decoding of one row alone, without the batcher: by a `Vlm`, and by the library."""

from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from runners.decoder.part import Part
from runners.vlm.interface import Encoded, RowPart, Vlm


def greedy(vlm: Vlm, encoded: Encoded, max_new_tokens: int) -> list[int]:
    """The tokens of one row alone, the stop token included.

    No batcher may use the model meanwhile, as this takes all blocks.
    """
    blocks = _take_blocks(vlm, encoded.length + max_new_tokens)
    tokens = [int(_prefill(vlm, encoded, blocks).argmax())]
    while len(tokens) < max_new_tokens and tokens[-1] not in vlm.stop_tokens:
        part = Part(blocks, encoded.length + len(tokens) - 1, 1)
        tokens.append(int(vlm.decode([RowPart(encoded, tokens, part)])[0].argmax()))
    return tokens


def first_logits(vlm: Vlm, encoded: Encoded) -> Tensor:
    """The logits of a row's first token, [vocabulary]."""
    return _prefill(vlm, encoded, _take_blocks(vlm, encoded.length))


def generate(model: PreTrainedModel, encoded: Encoded, max_new_tokens: int) -> list[int]:
    """What the library's own model makes of the prompt, the stop token included."""
    made = _generated(model, encoded, max_new_tokens)
    tokens: list[int] = made.sequences[0, encoded.length :].tolist()
    return tokens


def first_logits_of_library(model: PreTrainedModel, encoded: Encoded) -> Tensor:
    """What the library's own model gives where `first_logits` gives the service's."""
    logits: Tensor = _generated(model, encoded, 1).logits[0][0]
    return logits


def _generated(model: PreTrainedModel, encoded: Encoded, max_new_tokens: int) -> Any:
    ids = encoded.tokens[None]
    inputs: dict[str, Tensor] = dict(encoded.pixels)
    if "image_grid_thw" in inputs and model.config.model_type.startswith("qwen"):
        inputs["mm_token_type_ids"] = (ids == model.config.image_token_id).int()
    return model.generate(
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=max_new_tokens,
        do_sample=False,
        repetition_penalty=1.0,  # whatever the generation config says
        output_logits=True,
        return_dict_in_generate=True,
        **inputs,
    )


def _take_blocks(vlm: Vlm, columns: int) -> list[int]:
    count = -(-columns // vlm.pool.block_size)
    vlm.pool.resize(0, [])
    vlm.pool.resize(count, [])
    return list(range(count))


def _prefill(vlm: Vlm, encoded: Encoded, blocks: list[int]) -> Tensor:
    seen = vlm.encode_images([encoded], None)[0] if encoded.visual_tokens else None
    return vlm.prefill([RowPart(encoded, [], Part(blocks, 0, encoded.length), seen)])[0]


def note_prefills(vlm: Vlm) -> list[tuple[int, int]]:
    """A list to which every part of a prompt is added that is computed from now on.

    Each is the first of its columns, and the one after the last.
    """
    computed: list[tuple[int, int]] = []
    prefill = vlm.prefill

    def noted(rows):
        prompts = [one for one in rows if one.part.start < one.encoded.length]
        computed.extend((one.part.start, one.part.end) for one in prompts)
        return prefill(rows)

    vlm.prefill = noted  # type: ignore[method-assign]
    return computed
