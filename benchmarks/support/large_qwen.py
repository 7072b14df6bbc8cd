"""Random Qwen3-VL models as large as the published ones, made on the device itself."""

import tempfile
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoProcessor,
    ProcessorMixin,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
)

from benchmarks.support.random_qwen import MODEL, VOCABULARY
from runners.families.qwen_vl import QwenVl
from tests.support.models.checkpoints import make_checkpoint

MAX_PIXELS = 1_003_520
"""Of an image; about 1,000 visual tokens."""
SIZES: dict[str, dict[str, dict[str, Any]]] = {
    "2B": {
        "text": {
            "hidden_size": 2048,
            "intermediate_size": 6144,
            "num_hidden_layers": 28,
            "num_attention_heads": 16,
            "num_key_value_heads": 8,
        },
        "vision": {
            "depth": 24,
            "hidden_size": 1024,
            "num_heads": 16,
            "intermediate_size": 4096,
            "out_hidden_size": 2048,
            "deepstack_visual_indexes": [5, 11, 17],
        },
    },
    "8B": {
        "text": {
            "hidden_size": 4096,
            "intermediate_size": 12288,
            "num_hidden_layers": 36,
            "num_attention_heads": 32,
            "num_key_value_heads": 8,
        },
        "vision": {
            "depth": 27,
            "hidden_size": 1152,
            "num_heads": 16,
            "intermediate_size": 4304,
            "out_hidden_size": 4096,
            "deepstack_visual_indexes": [8, 16, 24],
        },
    },
}
"""Shapes of the published configurations of Qwen3-VL."""


def make_plain(
    size: str, tiny: bool, device: str
) -> tuple[Qwen3VLForConditionalGeneration, ProcessorMixin]:
    """A random Qwen3-VL on the device, as the library has it, and its processor.

    In bfloat16 on a GPU. It ends at no token. size: of `SIZES`. tiny: that of a test's checkpoint
    instead.
    """
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = make_checkpoint(MODEL, Path(folder) / MODEL)
        config = Qwen3VLConfig.from_pretrained(checkpoint)
        processor = AutoProcessor.from_pretrained(checkpoint)
    if not tiny:
        rope = config.text_config.rope_parameters | {"mrope_section": [24, 20, 20]}
        shared = {"vocab_size": VOCABULARY, "head_dim": 128, "rope_parameters": rope}
        config.text_config.update(SIZES[size]["text"] | shared)
        config.vision_config.update(SIZES[size]["vision"])
    torch.manual_seed(0)
    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16 if device == "cuda" else torch.float32)
    try:
        with torch.device(device):
            model = Qwen3VLForConditionalGeneration(config).eval().requires_grad_(False)
    finally:
        torch.set_default_dtype(default)
    model.generation_config.update(eos_token_id=None, pad_token_id=0, do_sample=False)
    return model, processor


def make_model(size: str, tiny: bool, device: str, max_pixels: int = MAX_PIXELS) -> QwenVl:
    """The model of `make_plain` as it is served. It keeps nothing for reuse."""
    vlm = QwenVl(*make_plain(size, tiny, device), max_pixels, reuse_bytes=0)
    vlm.stop_tokens = frozenset()
    return vlm
