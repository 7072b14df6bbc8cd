"""A tiny checkpoint of dots.ocr with the files of the original repository.

Those of the remote code are there too, and fail where they are run.
"""

from pathlib import Path

import torch

from runners.families.dots_ocr.model import DotsOCRConfig, DotsOCRForCausalLM
from tests.support.models.checkpoint_files.hub_files import dots_files, update
from tests.support.models.checkpoints import make_tokenizer, say, spread

SPECIALS = (
    "<|endoftext|>",
    "<|imgpad|>",
    "<|img|>",
    "<|endofimg|>",
    "<|user|>",
    "<|endofuser|>",
    "<|assistant|>",
    "<|endofassistant|>",
)
TEXT_TEMPLATE = (
    "{%- for m in messages %}{{- '<|user|>' + m.content + '<|endofuser|>' }}{%- endfor %}"
    "{{- '<|assistant|>' }}"
)
"""The tokenizer's template, for texts only."""
REMOTE_CODE = {
    "AutoConfig": "configuration_dots.DotsOCRConfig",
    "AutoModelForCausalLM": "modeling_dots_ocr.DotsOCRForCausalLM",
}
VISION = {
    "embed_dim": 48,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
}
FOR_REMOTE_CODE = {
    "attn_implementation": "flash_attention_2",
    "init_merger_std": 0.02,
    "is_causal": False,
    "post_norm": True,
    "use_bias": False,
}
"""What the original's `vision_config` says to its own code."""


def make_dots_checkpoint(folder: Path, *, says: str | None = None, seed: int = 0) -> Path:
    """As `make_checkpoint`; `says` may be any text: one that repeats a token becomes a token."""
    torch.manual_seed(seed)
    tokenizer = make_tokenizer(SPECIALS, eos_token="<|endoftext|>", pad_token="<|endoftext|>")
    if says is not None and len(set(tokens := tokenizer.encode(says))) != len(tokens):
        tokenizer.add_tokens(says)
    model = DotsOCRForCausalLM(
        DotsOCRConfig(
            vocab_size=len(tokenizer),
            hidden_size=64,
            intermediate_size=128,
            num_hidden_layers=3,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=131072,
            image_token_id=tokenizer.convert_tokens_to_ids("<|imgpad|>"),
            vision_config=VISION,
        )
    )
    if says is None:
        spread(model)
    else:
        say(model, tokenizer, says, after="<|assistant|>")
    model.save_pretrained(folder, max_shard_size="300KB")
    tokenizer.chat_template = TEXT_TEMPLATE
    tokenizer.save_pretrained(folder, save_jinja_files=False)
    update(
        folder / "config.json",
        architectures=["DotsOCRForCausalLM"],
        auto_map=REMOTE_CODE,
        attention_bias=True,
        rope_theta=1000000,
        rope_scaling=None,
        rope_parameters=None,
        torch_dtype="bfloat16",
        dtype=None,
        layer_types=None,
        vision_config=VISION | FOR_REMOTE_CODE,
    )
    update(
        folder / "generation_config.json",
        eos_token_id=tokenizer.convert_tokens_to_ids(["<|endoftext|>", "<|endofassistant|>"]),
    )
    dots_files(folder)
    for module in ("configuration_dots", "modeling_dots_ocr", "modeling_dots_vision"):
        (folder / f"{module}.py").write_text("raise RuntimeError('remote code was run')\n")
    return folder
