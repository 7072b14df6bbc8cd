"""What crosses the wall between the gateway and a runner: plain data, no tensors, no pictures.

A runner answers every call with a value: an `Answer`, or the `Failure` that a `Refusal` carries.
An exception that crosses the wall is a fault of ours or a dead process.
"""

from collections.abc import AsyncGenerator, Iterable
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from common.failures import Failure

Box = tuple[int, int, int, int]
"""x0, y0, x1, y1 in pixels of the upright image; x1 and y1 lie outside."""

FinishReason = Literal["stop", "length", "repetition", "deadline"]


class Message(BaseModel):
    model_config = ConfigDict(
        frozen=True, extra="forbid", ser_json_bytes="base64", val_json_bytes="base64"
    )


class Options(Message):
    """What only some families understand; `model_fields_set` says which were asked for."""

    box: Box | None = Field(None, description="Read this region only: x0,y0,x1,y1 in pixels")
    color: Literal["red", "green", "blue"] | None = Field(
        None, description="Read only what a frame of this colour encloses"
    )
    formatted: bool = Field(False, description="Keep the structure: Markdown, LaTeX")
    mode: Literal["ocr", "layout"] = Field("ocr", description="`layout` adds the page's blocks")


class Image(Message):
    data: bytes = Field(repr=False)
    """Encoded: JPEG, PNG, BMP, TIFF or WebP."""


class Turn(Message):
    role: Literal["system", "user", "assistant"]
    parts: tuple[str | Image, ...]
    """What is said and shown, in this order."""


def question(images: Iterable[bytes], *texts: str) -> tuple[Turn, ...]:
    """A conversation of one turn: the user shows encoded images, then says something of them."""
    return (Turn(role="user", parts=(*(Image(data=image) for image in images), *texts)),)


class Request(Message):
    """What is to be read, or a conversation to go on with."""

    task: Literal["ocr", "chat"]
    """`ocr`: one image, no word."""
    turns: tuple[Turn, ...]
    language: str | None = None
    """ISO 639-1 code where there is one ("ru"), else ISO 639-3."""
    temperature: float = 0.0
    """0 is greedy."""
    top_p: float = 1.0
    """Only the likeliest tokens that together have this probability are drawn from."""
    seed: int | None = None
    """Equal seeds draw equally."""
    stop: tuple[str, ...] = ()
    """Texts before the first of which the answer ends."""
    max_tokens: int = 2048
    options: Options = Options()

    @property
    def images(self) -> list[bytes]:
        """Encoded, of all turns in order."""
        return [part.data for turn in self.turns for part in turn.parts if isinstance(part, Image)]

    @property
    def prompt(self) -> str:
        """What the last turn says."""
        return "".join(part for part in self.turns[-1].parts if isinstance(part, str))


class Usage(Message):
    prompt_tokens: int
    """All that was prefilled, the visual tokens included."""
    visual_tokens: int
    completion_tokens: int


class Line(Message):
    text: str
    box: Box
    confidence: Annotated[float, Field(ge=0, le=1)]
    page: int | None = Field(
        None,
        exclude_if=lambda page: page is None,
        description="Which of several images it is on, from 1",
    )


class Block(Message):
    category: str
    box: Box
    text: str


class Answer(Message):
    text: str
    image_size: tuple[int, int]
    """Width, height of the upright image, the first of several; zeros where there was none."""
    finish_reason: FinishReason | None = None
    usage: Usage | None = None
    lines: list[Line] | None = None
    blocks: list[Block] | None = None
    prompt_used: bool | None = None
    """False where the model can only read, so that a question could not be put to it."""
    truncated: bool | None = None
    """True where a structured answer broke off and only its whole elements were kept."""
    warning: str | None = None


class Piece(Message):
    """Text of an answer that is still being made; whole characters only."""

    text: str


Stream = AsyncGenerator[Piece | Answer, None]
"""Pieces as they are made, the answer last."""


class Status(Message):
    """One runner as it is now."""

    state: Literal["unloaded", "loading", "loaded", "unavailable"]
    reason: str | None = None
    """Why it is unavailable, or why the last load of an unloaded one failed, in one sentence."""
    device: str | None = None
    dtype: str | None = None
    memory_bytes: int | None = None
    """What the loaded model holds, its KV cache included."""
    rows: int = 0
    """Requests being worked on."""
    queued: int = 0
    idle_seconds: float = 0.0
    """Since the last request ended."""
    places: tuple[str, ...] = ()
    """The memories that the model lives in, or would: host and device of each."""
    needs_bytes: int = 0
    """What loading it will take."""
    free_bytes: int = 0
    """What is free in those places."""


class Reply(Message):
    """What a runner's call returns."""

    outcome: Answer | Piece | Status | Failure
