"""What a family of vision-language models provides to the engine and the batcher.

The batcher sees rows, tokens and positions; all that is special about pixels, prompts and
position encodings stays behind these verbs.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from transformers import Cache

from runners.messages import Answer, FinishReason, Request


@dataclass(frozen=True)
class Encoded:
    """A request as tensors on the CPU, made beside the decode loop, ready to be prefilled."""

    inputs: dict[str, Tensor]
    """What the processor gave: `input_ids` [1, length], pixel values, grids."""
    image_key: bytes
    """Digest of the pixel values: equal keys, equal visual features."""
    prefix_length: int
    """Leading tokens that every request on this image shares; 0 where there are none to reuse."""
    visual_tokens: int
    image_size: tuple[int, int]
    """Width, height of the upright image, before any resizing."""

    @property
    def length(self) -> int:
        return self.inputs["input_ids"].shape[1]


@dataclass(frozen=True)
class Prefilled:
    """A row that is ready to join the batch."""

    logits: Tensor
    """[vocabulary], of the prompt's last token, on the model's device."""
    layers: list[tuple[Tensor, Tensor]]
    """Keys and values of each layer, [1, heads, length, head size]."""
    next_position: int
    """Position index of the first new token (Qwen: not the length, images count less)."""


class Vlm(ABC):
    """One loaded model. Used by one thread at a time, but for `encode`, which any thread may call."""

    stop_tokens: frozenset[int]
    device: torch.device
    dtype: torch.dtype

    @abstractmethod
    def encode(self, request: Request, image: Image.Image) -> Encoded:
        """Prompt and upright RGB image to tensors. Raises `Refusal` for what cannot be asked."""

    @abstractmethod
    def prefill(self, encoded: Encoded) -> Prefilled:
        """Run the whole prompt of one row; reuses what is kept of the same image."""

    @abstractmethod
    def decode(self, tokens: Tensor, positions: Tensor, mask: Tensor, cache: Cache) -> Tensor:
        """One step of every row: logits [rows, vocabulary].

        tokens, positions: [rows] int64, on the device. mask: [rows, columns] bool, true where a
        row may look, the new token's own column included. The cache takes one column a row.
        """

    @abstractmethod
    def text(self, tokens: Sequence[int]) -> str:
        """Tokens to text, special tokens left out; a cut UTF-8 sequence shows as U+FFFD."""

    @abstractmethod
    def answer(
        self, request: Request, encoded: Encoded, text: str, finish_reason: FinishReason
    ) -> Answer:
        """The family's answer, made of the finished row's text (usage is filled in later)."""

    def close(self) -> None:
        """Drop everything that is kept between requests."""

    @property
    def reuse_stats(self) -> dict[str, Any]:
        """Counters of the vision and prefix cache: hits, misses, evictions, bytes."""
        return {}
