"""Defines what a family of vision-language models provides to the engine and the batcher.

The batcher sees rows, tokens and positions. All that is special about pixels, prompts and position
encodings is behind the methods of `Vlm`.
"""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from PIL import Image
from torch import Tensor
from transformers import Cache

from common.messages import Answer, FinishReason, Options

Layers = list[tuple[Tensor, Tensor]]
"""Keys and values of each layer, [1, heads, length, head size]."""


@dataclass(frozen=True)
class Task:
    """What is to be done: read a page, or answer in a conversation, and how."""

    kind: Literal["ocr", "chat"]
    language: str | None = None
    """ISO 639-1 code where there is one ("ru"), else ISO 639-3."""
    options: Options = field(default_factory=Options)


@dataclass(frozen=True)
class DecodedTurn:
    """One turn of a conversation, its images decoded."""

    role: Literal["system", "user", "assistant"]
    parts: tuple[str | Image.Image, ...]
    """Texts and upright RGB images, in order."""


@dataclass(frozen=True)
class DecodedRequest:
    """A request whose images are decoded: a page to read, or a whole conversation to continue."""

    task: Task
    turns: tuple[DecodedTurn, ...]
    """For OCR a single turn with a single image and no text."""
    max_tokens: int
    """Largest number of tokens of the answer."""

    @property
    def images(self) -> list[Image.Image]:
        """The images of all turns, in order."""
        return [part for turn in self.turns for part in turn.parts if isinstance(part, Image.Image)]


@dataclass(frozen=True)
class Encoded:
    """A request as tensors on the CPU, ready to be prefilled: the prompt, and its images."""

    inputs: dict[str, Tensor]
    """`input_ids` [1, length], `position_ids` [..., 1, length], pixel values, grids."""
    image_key: bytes
    """Digest of the pixel values: images with equal keys have equal visual features."""
    prefix_length: int
    """Number of leading tokens up to the last image token; 0 without an image."""
    visual_tokens: int
    image_size: tuple[int, int]
    """Width, height of the first upright image before any resizing; zeros without an image."""

    @property
    def length(self) -> int:
        return self.inputs["input_ids"].shape[1]

    @property
    def prefix_key(self) -> bytes:
        """Digest of the prefix: rows with equal keys have equal keys and values there."""
        return self.image_key + digest(self.inputs["input_ids"][:, : self.prefix_length])


@dataclass(frozen=True)
class Prefilled:
    """The result of a prefill: what a row needs to join the batch."""

    logits: Tensor
    """[vocabulary], of the last prompt token, on the model's device."""
    layers: Layers
    next_position: int
    """Position index of the first new token. With Qwen's models it is not the prompt's length: an
    image takes fewer positions than tokens."""


class Vlm(ABC):
    """One loaded model.

    `encode`, `text`, `answer` and `reuse_stats` may be called from any thread; everything else from
    one thread at a time.
    """

    stop_tokens: frozenset[int]
    weights_bytes: int
    device: torch.device
    dtype: torch.dtype

    @abstractmethod
    def encode(self, request: DecodedRequest) -> Encoded:
        """Turn a request into tensors. Raises `Refusal` if the model cannot take it."""

    @abstractmethod
    def prefill(self, encoded: Encoded) -> Prefilled:
        """Run the whole prompt of one row. Reuses what is kept of the same images."""

    @abstractmethod
    def decode(self, tokens: Tensor, positions: Tensor, mask: Tensor, cache: Cache) -> Tensor:
        """Run one step of every row. Returns logits [rows, vocabulary].

        tokens, positions: [rows] int64, on the device. mask: [rows, columns] bool, true where a
        row may attend, the new token's own column included. The cache gets one column a row.
        """

    @abstractmethod
    def text(self, tokens: Sequence[int]) -> str:
        """The text of tokens, without special tokens. A cut UTF-8 sequence becomes U+FFFD."""

    @abstractmethod
    def answer(
        self, task: Task, encoded: Encoded, text: str, finish_reason: FinishReason
    ) -> Answer:
        """Build the answer from the text of a finished row; its usage is filled in later."""

    def forget(self) -> None:  # noqa: B027 not every family keeps something
        """Drop everything that is kept for reuse between requests."""

    @property
    def reuse_stats(self) -> dict[str, dict[str, int]]:
        """Counters of what is kept for reuse, by what it is: hits, misses, evictions, bytes."""
        return {}


def digest(*tensors: Tensor) -> bytes:
    """Digest of the bytes of tensors on the CPU."""
    state = hashlib.blake2b(digest_size=16)
    for tensor in tensors:
        state.update(tensor.contiguous().view(torch.uint8).numpy().data)
    return state.digest()
