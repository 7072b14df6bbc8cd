"""Defines what a family of vision-language models provides to the engine and the batcher.

The batcher sees rows, tokens and positions. All that is special about pixels, prompts and position
encodings is behind the methods of `Vlm`.
"""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import torch
from llguidance import LLTokenizer
from torch import Tensor

from common.catalog import UNSAID, SamplingParameters
from common.messages import Answer, FinishReason, Options, Toolbox, ToolCall
from runners.decoder.kv_pool import KvPool
from runners.decoder.part import Part
from runners.vlm.request_images import RequestImage


@dataclass(frozen=True)
class Task:
    """What is to be done: read a page, or answer in a conversation, and how."""

    kind: Literal["ocr", "chat"]
    language: str | None = None
    """ISO 639-1 code where there is one ("ru"), else ISO 639-3."""
    options: Options = field(default_factory=Options)


TurnPart = str | RequestImage
"""A text or an image of a turn."""


@dataclass(frozen=True)
class ModelTurn:
    """One turn of a conversation."""

    role: Literal["system", "user", "assistant", "tool"]
    parts: tuple[TurnPart, ...]
    """Texts and images, in order."""
    calls: tuple[ToolCall, ...] = ()
    """The functions that the assistant called after its text."""


@dataclass(frozen=True)
class ModelRequest:
    """What a model is asked: to read a page, or to continue a conversation."""

    task: Task
    turns: tuple[ModelTurn, ...]
    """For OCR a single turn with a single image and no text."""
    max_tokens: int
    """Largest number of tokens of the answer."""
    toolbox: Toolbox | None = None
    """The functions that the model may call."""

    @property
    def images(self) -> list[RequestImage]:
        """The images of all turns, in order."""
        return [part for turn in self.turns for part in turn.parts if not isinstance(part, str)]


@dataclass(frozen=True)
class Encoded:
    """A request as tensors on the CPU, ready to be prefilled: the prompt, and its images."""

    tokens: Tensor
    """[length] int64. An image is as many image tokens as it has visual tokens."""
    positions: Tensor
    """[axes, length] int64, position indices as the model's rotary embedding takes them."""
    pixels: Mapping[str, Tensor]
    """What the vision tower takes: pixel values, grids; empty without an image."""
    image_key: bytes
    """Images with equal keys have equal visual features."""
    prefix_length: int
    """Number of leading tokens up to the last image token; 0 without an image."""
    visual: Tensor
    """[visual tokens] int64, where the image tokens are."""
    image_size: tuple[int, int]
    """Width, height of the first upright image before any resizing; zeros without an image."""
    seen_sizes: tuple[tuple[int, int], ...] = ()
    """Width, height in which the model sees each image; empty if the family does not say it."""
    room: int | None = None
    """Most tokens of an answer that the model's context has room for; None if it is not bounded."""

    @cached_property
    def length(self) -> int:
        return len(self.tokens)

    @property
    def visual_tokens(self) -> int:
        return len(self.visual)

    @cached_property
    def next_position(self) -> int:
        """Position index of the first new token. With Qwen's models it is not the prompt's length:
        an image takes fewer positions than tokens."""
        return int(self.positions.max()) + 1

    @cached_property
    def prefix_key(self) -> bytes:
        """Digest of the prefix: rows with equal keys have equal keys and values there."""
        return self.image_key + digest(self.tokens[: self.prefix_length])


class LazyTensors(Mapping[str, Tensor]):
    """Tensors that are made when somebody asks for one of them."""

    def __init__(self, make: Callable[[], dict[str, Tensor]]) -> None:
        self._make = make

    def __getitem__(self, name: str) -> Tensor:
        return self._made[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._made)

    def __len__(self) -> int:
        return len(self._made)

    @cached_property
    def _made(self) -> dict[str, Tensor]:
        return self._make()


@dataclass(frozen=True)
class Features:
    """What a model saw in the images of one request."""

    tokens: Tensor
    """[visual tokens, hidden size], what replaces the embeddings of the image tokens."""
    added: list[Tensor]
    """What Qwen3-VL adds to them after each of its first layers, shaped alike."""


@dataclass(frozen=True)
class RowPart:
    """Tokens of a row that are to be computed in a forward together with other rows'."""

    encoded: Encoded
    made: Sequence[int]
    """The tokens that the row has made so far; they follow the prompt."""
    part: Part
    """Which of the prompt's and the made tokens are computed, and where their columns are."""
    features: Features | None = None
    """Needed if image tokens are among them."""


class Vlm(ABC):
    """One loaded model.

    `encode`, `text`, `token_data`, `vocabulary`, `answer` and `reuse_stats` may be called from any
    thread;
    everything else from one thread at a time.
    """

    stop_tokens: frozenset[int]
    weights_bytes: int
    device: torch.device
    dtype: torch.dtype
    pool: KvPool
    """The keys and values of all rows; the batcher says which row has which block."""
    prefix_bytes: int
    """How many bytes of keys and values may be kept between requests."""
    most_tokens: int
    """Tokens of the largest prefill."""
    sampling: SamplingParameters = UNSAID
    """How tokens are chosen, as far as the checkpoint's generation config says it."""

    @abstractmethod
    def encode(self, request: ModelRequest) -> Encoded:
        """Turn a request into tensors. Raises `Refusal` if the model cannot take it."""

    @abstractmethod
    def encode_images(
        self, prompts: Sequence[Encoded], between: Callable[[], object] | None
    ) -> list[Features]:
        """Run the vision tower over the images of several prompts, each with at least one.

        between: called again and again while the tower runs, so that rows in flight do not wait
        until the end: on a CPU after each operation, on a GPU between layers, when the device has
        nearly caught up; None if there are no such rows.
        """

    @abstractmethod
    def prefill(self, rows: Sequence[RowPart]) -> Tensor:
        """Compute parts of several rows: slices of prompts, and the newest tokens of running rows.

        Returns logits of each part's last token, [parts, vocabulary], on the device.
        """

    @abstractmethod
    def decode(self, rows: Sequence[RowPart]) -> Tensor:
        """Compute the newest token of each row.

        Returns logits [rows, vocabulary], on the device, valid until the next call.
        """

    @abstractmethod
    def text(self, tokens: Sequence[int]) -> str:
        """The text of tokens, without special tokens. A cut UTF-8 sequence becomes U+FFFD."""

    @property
    @abstractmethod
    def vocabulary(self) -> LLTokenizer:
        """The texts of the tokens, for grammars. It is made when it is first asked for, which takes
        about a second."""

    @abstractmethod
    def token_data(self, token: int) -> bytes:
        """The UTF-8 of a token, a special one too; it may be a part of a character."""

    @abstractmethod
    def answer(
        self, task: Task, encoded: Encoded, text: str, finish_reason: FinishReason
    ) -> Answer:
        """Build the answer from the text of a finished row; its usage is filled in later."""

    def bound_images(self, tokens: int) -> None:  # noqa: B027 not every family shrinks them less
        """Let no image become more visual tokens than this."""

    def forget(self) -> None:  # noqa: B027 not every family keeps something
        """Drop everything that is kept for reuse between requests."""

    def release_buffers(self) -> None:  # noqa: B027 not every model has some
        """Give back the memory that steps work in; the next step takes it anew."""

    @property
    def captures(self) -> int:
        """How often `decode` captured a graph first, which takes many times as long as a step."""
        return 0

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
