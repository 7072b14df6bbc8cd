"""A random Qwen3-VL of 123M parameters, and requests to it.

The other benchmarks use it, because speed does not depend on trained weights.
"""

import io
import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from transformers import (
    AutoProcessor,
    ProcessorMixin,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
)

from common.catalog import CATALOG
from runners.families import qwen_vl
from runners.families.qwen_vl import QwenVl
from settings import Settings
from tests.support.models.checkpoints import make_checkpoint, spread
from tests.support.models.prompts import page

MODEL = "qwen3_vl_2b"
"""Whose architecture it has, and under whose id it is served."""
VOCABULARY = 151_936


@dataclass(frozen=True)
class Asked:
    image: Image.Image
    prompt: str
    new_tokens: int

    @cached_property
    def png(self) -> bytes:
        buffer = io.BytesIO()
        self.image.save(buffer, "PNG")
        return buffer.getvalue()


def make_weights(weights: Path) -> None:
    """Writes the checkpoint, in float32, where CHATVLM_WEIGHTS=`weights` finds it."""
    folder = make_checkpoint(MODEL, weights / MODEL)
    config = Qwen3VLConfig.from_pretrained(folder)
    text, vision = config.text_config, config.vision_config
    text.update(
        {
            "vocab_size": VOCABULARY,
            "hidden_size": 512,
            "intermediate_size": 1536,
            "num_hidden_layers": 12,
            "num_attention_heads": 8,
            "num_key_value_heads": 4,
            "head_dim": 64,
            "rope_parameters": text.rope_parameters | {"mrope_section": [16, 8, 8]},
        }
    )
    vision.update(
        {"hidden_size": 256, "intermediate_size": 1024, "num_heads": 4, "out_hidden_size": 512}
    )
    torch.manual_seed(0)
    model = Qwen3VLForConditionalGeneration(config)
    spread(model)
    model.generation_config.update(eos_token_id=None, pad_token_id=0, do_sample=False)
    model.save_pretrained(folder)


def load_plain(
    weights: Path, dtype: torch.dtype
) -> tuple[Qwen3VLForConditionalGeneration, ProcessorMixin]:
    """As the library loads it."""
    model = Qwen3VLForConditionalGeneration.from_pretrained(weights / MODEL, dtype=dtype)
    return model.eval().requires_grad_(False), AutoProcessor.from_pretrained(weights / MODEL)


def load_served(weights: Path, dtype: torch.dtype, reuse_mib: float = 0, **changes: Any) -> QwenVl:
    """As its runner loads it; it stops at no token. changes: of the settings."""
    name = str(dtype).removeprefix("torch.")
    settings = Settings(weights=weights, dtype=name, reuse_mib=reuse_mib, **changes)
    served = qwen_vl.load(CATALOG[MODEL], settings)
    served.stop_tokens = frozenset()
    return served


def make_requests(count: int, new_tokens: tuple[int, int], sides: tuple[int, int]) -> list[Asked]:
    dice = random.Random(0)
    return [
        Asked(
            page(dice.randint(*sides), dice.randint(*sides), number),
            "What is this?",
            dice.randint(*new_tokens),
        )
        for number in range(count)
    ]


def arrivals_over(seconds: float, requests: Sequence[Asked]) -> list[float]:
    """When each request comes, at random, ascending."""
    dice = random.Random(1)
    return sorted(dice.uniform(0, seconds) for _ in requests)
