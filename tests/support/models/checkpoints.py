"""Tiny checkpoints of every vision-language model served, as folders that the real code loads.

The classes, processors and file names are those of the real repositories, and so is the shape of
their files (`checkpoint_files/`); only the sizes are small (under 2M parameters), and the tokenizer
is a byte-level BPE trained here, with the special tokens of the family.
"""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    GenerationConfig,
    GotOcr2Config,
    GotOcr2ForConditionalGeneration,
    GotOcr2ImageProcessor,
    GotOcr2Processor,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    ProcessorMixin,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2_5_VLProcessor,
    Qwen2VLConfig,
    Qwen2VLForConditionalGeneration,
    Qwen2VLImageProcessor,
    Qwen2VLProcessor,
    Qwen2VLVideoProcessor,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
    Qwen3VLProcessor,
    Qwen3VLVideoProcessor,
)

from tests.support.models.checkpoint_files import hub_files

QWEN_SPECIALS = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|vision_pad|>",
    "<|image_pad|>",
    "<|video_pad|>",
)
GOT_SPECIALS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<img>", "</img>", "<imgpad>")

WORDS = "The quick brown fox jumps over a lazy dog while seven small wizards read old books"
"""The words of `says` that the tokenizer knows as one token each."""

_TIED = {"got_ocr", "qwen_vl_2b", "qwen2_5_vl_3b", "qwen3_vl_2b", "qwen3_vl_4b"}
"""Models whose output projection is their embedding."""
_GAINS = {"q_proj": 2.0, "k_proj": 2.0, "o_proj": 4.0}
_SHARDS = {"qwen_vl_7b": "300KB", "qwen3_vl_4b": "300KB", "qwen3_vl_8b": "300KB"}
"""Models whose weights are several files, and the size of each file."""


def make_checkpoint(model_id: str, folder: Path, *, says: str | None = None, seed: int = 0) -> Path:
    """Writes a tiny checkpoint of the model's architecture into `folder`, which is returned.

    With random weights (the default) the text depends on the page and on the prompt, and
    rambles. With `says`, different words of `WORDS`, the model answers just these to everything
    and stops: each token calls for its successor, whatever came before.
    """
    if model_id == "dots_ocr":
        from tests.support.models.dots_checkpoint import (
            make_dots_checkpoint,  # which imports this module
        )

        return make_dots_checkpoint(folder, says=says, seed=seed)
    torch.manual_seed(seed)
    model, processor = _MAKERS[model_id](tied=says is None and model_id in _TIED)
    tokenizer = processor.tokenizer
    model.generation_config = GenerationConfig(
        eos_token_id=[tokenizer.eos_token_id, tokenizer.convert_tokens_to_ids("<|endoftext|>")],
        pad_token_id=tokenizer.convert_tokens_to_ids("<|endoftext|>"),
    )
    if says is None:
        spread(model)
    else:
        say(model, tokenizer, says)
    model.save_pretrained(folder, max_shard_size=_SHARDS.get(model_id, "1GB"))
    processor.save_pretrained(folder)
    _FILES[model_id.rpartition("_")[0]](folder)
    return folder


def make_tokenizer(specials: Sequence[str], **named: str) -> PreTrainedTokenizerFast:
    """A byte-level BPE that knows `WORDS` and the specials; `named` as `eos_token=...`."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([f"{WORDS} {WORDS}"] * 2, trainer)
    tokenizer.add_special_tokens(list(specials))
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, extra_special_tokens=list(specials), **named
    )


def spread(model: PreTrainedModel) -> None:
    """Random weights that let what a row has seen, not its last token alone, call for the next.

    A fresh model's are so small that greedy decoding repeats one token; here attention is sharp
    and outweighs the residual.
    """
    for name, parameter in model.named_parameters():
        if name.endswith(("q_norm.weight", "k_norm.weight")):
            torch.nn.init.constant_(parameter, 2.0)
        elif parameter.dim() > 1:
            gain = _GAINS.get(name.split(".")[-2], 1.0)
            torch.nn.init.normal_(parameter, std=gain * parameter[0].numel() ** -0.5)


def say(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, text: str, after: str = "\n"
) -> None:
    """Silence the layers and let the output projection look up the successor of each token.

    after: what every prompt ends with.
    """
    chain = [
        tokenizer.encode(after)[-1],
        *tokenizer.encode(text),
        tokenizer.eos_token_id,
    ]
    if len(set(chain)) != len(chain):
        raise ValueError("`says` repeats a token")
    for name, parameter in model.named_parameters():
        if name.endswith(("o_proj.weight", "down_proj.weight")):
            torch.nn.init.zeros_(parameter)
    embedding = model.get_input_embeddings().weight
    torch.nn.init.normal_(embedding)
    output = torch.zeros_like(model.lm_head.weight)
    for token, successor in pairwise(chain):
        output[successor] = embedding[token].detach()
    model.lm_head.weight = torch.nn.Parameter(output)


def _qwen2_vl(tied: bool) -> tuple[PreTrainedModel, ProcessorMixin]:
    tokenizer = make_tokenizer(QWEN_SPECIALS, eos_token="<|im_end|>", pad_token="<|endoftext|>")
    config = Qwen2VLConfig(
        text_config=_text(tokenizer)
        | {"rope_parameters": {"rope_type": "default", "mrope_section": [2, 3, 3]}},
        vision_config={
            "depth": 2,
            "embed_dim": 32,
            "hidden_size": 64,
            "num_heads": 2,
            "mlp_ratio": 2,
        },
        tie_word_embeddings=tied,
        **_vision_tokens(tokenizer),
    )
    processor = Qwen2VLProcessor(
        Qwen2VLImageProcessor(),
        tokenizer,
        Qwen2VLVideoProcessor(),
        chat_template=hub_files.QWEN2_TEMPLATE,
    )
    return Qwen2VLForConditionalGeneration(config), processor


def _qwen2_5_vl(tied: bool) -> tuple[PreTrainedModel, ProcessorMixin]:
    tokenizer = make_tokenizer(QWEN_SPECIALS, eos_token="<|im_end|>", pad_token="<|endoftext|>")
    config = Qwen2_5_VLConfig(
        text_config=_text(tokenizer)
        | {"rope_parameters": {"rope_type": "default", "mrope_section": [2, 3, 3]}},
        vision_config={
            "depth": 3,
            "hidden_size": 32,
            "intermediate_size": 52,
            "num_heads": 2,
            "out_hidden_size": 64,
            "window_size": 112,
            "fullatt_block_indexes": [1],
        },
        tie_word_embeddings=tied,
        **_vision_tokens(tokenizer),
    )
    processor = Qwen2_5_VLProcessor(
        Qwen2VLImageProcessor(),
        tokenizer,
        Qwen2VLVideoProcessor(),
        chat_template=hub_files.QWEN2_TEMPLATE,
    )
    return Qwen2_5_VLForConditionalGeneration(config), processor


def _qwen3_vl(tied: bool) -> tuple[PreTrainedModel, ProcessorMixin]:
    tokenizer = make_tokenizer(QWEN_SPECIALS, eos_token="<|im_end|>", pad_token="<|endoftext|>")
    rope = {
        "rope_type": "default",
        "rope_theta": 5e6,
        "mrope_section": [8, 4, 4],
        "mrope_interleaved": True,
    }
    config = Qwen3VLConfig(
        # This head size is one for which there are kernels for CPUs; those of the others are not.
        text_config=_text(tokenizer) | {"head_dim": 32, "rope_parameters": rope},
        vision_config={
            "depth": 3,
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_heads": 2,
            "out_hidden_size": 64,
            "num_position_embeddings": 64,
            "deepstack_visual_indexes": [0, 1],
        },
        tie_word_embeddings=tied,
        **_vision_tokens(tokenizer),
    )
    processor = Qwen3VLProcessor(
        Qwen2VLImageProcessor(),
        tokenizer,
        Qwen3VLVideoProcessor(),
        chat_template=hub_files.QWEN3_TEMPLATE,
    )
    return Qwen3VLForConditionalGeneration(config), processor


def _got_ocr(tied: bool) -> tuple[PreTrainedModel, ProcessorMixin]:
    tokenizer = make_tokenizer(GOT_SPECIALS, eos_token="<|im_end|>", pad_token="<|endoftext|>")
    side = 256  # with patches of 4 as many tokens as the real 1024 with patches of 16
    config = GotOcr2Config(
        text_config=_text(tokenizer) | {"model_type": "qwen2", "tie_word_embeddings": tied},
        vision_config={
            "hidden_size": 16,
            "output_channels": 8,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "image_size": side,
            "patch_size": 4,
            "global_attn_indexes": [],
            "mlp_dim": 32,
        },
        image_token_index=tokenizer.convert_tokens_to_ids("<imgpad>"),
        tie_word_embeddings=tied,
    )
    processor = GotOcr2Processor(
        GotOcr2ImageProcessor(size={"height": side, "width": side}), tokenizer
    )
    return GotOcr2ForConditionalGeneration(config), processor


def _text(tokenizer: PreTrainedTokenizerFast) -> dict[str, Any]:
    return {
        "vocab_size": len(tokenizer),
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 32768,
        "bos_token_id": None,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }


def _vision_tokens(tokenizer: PreTrainedTokenizerFast) -> dict[str, int]:
    return {
        f"{name}_token_id": tokenizer.convert_tokens_to_ids(token)
        for name, token in {
            "image": "<|image_pad|>",
            "video": "<|video_pad|>",
            "vision_start": "<|vision_start|>",
            "vision_end": "<|vision_end|>",
        }.items()
    }


_FILES = {
    "got": hub_files.got_files,
    "qwen_vl": hub_files.qwen2_files,
    "qwen2_5_vl": hub_files.qwen2_5_files,
    "qwen3_vl": hub_files.qwen3_files,
}
_MAKERS = {
    "got_ocr": _got_ocr,
    "qwen_vl_2b": _qwen2_vl,
    "qwen_vl_7b": _qwen2_vl,
    "qwen2_5_vl_3b": _qwen2_5_vl,
    "qwen3_vl_2b": _qwen3_vl,
    "qwen3_vl_4b": _qwen3_vl,
    "qwen3_vl_8b": _qwen3_vl,
}
