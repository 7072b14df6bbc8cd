"""Defines the protocol between the gateway and the runners: the requests and replies on the wire.

They are plain data, without tensors or decoded images. A runner answers every call with a value: an
`Answer`, or the `Failure` of the `Refusal` that was raised. If a call raises anything else, the
runner has a fault or its process died.
"""

from collections.abc import AsyncGenerator, Iterable, Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from common.failures import Failure

Box = tuple[int, int, int, int]
"""x0, y0, x1, y1 in pixels of the upright image; x1 and y1 lie outside."""

TextSource = Literal["image", "text_layer", "both"]
"""Where the text of pages comes from: from their images, or from the text layers of their PDF."""

FinishReason = Literal["stop", "length", "repetition", "deadline"]


class WireModel(BaseModel):
    """The base of all that crosses the wire: immutable, and without unknown fields."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", ser_json_bytes="base64", val_json_bytes="base64"
    )


class Options(WireModel):
    """Options that only some families know; `model_fields_set` names those that were given."""

    box: Box | None = Field(None, description="Read this region only: x0,y0,x1,y1 in pixels")
    color: Literal["red", "green", "blue"] | None = Field(
        None, description="Read only what a frame of this colour encloses"
    )
    formatted: bool = Field(False, description="Keep the structure: Markdown, LaTeX")
    mode: Literal["ocr", "layout"] = Field("ocr", description="`layout` adds the page's blocks")
    prompt: str | None = Field(
        None,
        min_length=1,
        max_length=20_000,
        description="Read with these words instead of the service's own",
    )


Confidence = Annotated[float, Field(ge=0, le=1)]


class Word(WireModel):
    """A word of a line."""

    text: str
    box: Box
    confidence: Confidence


class Line(WireModel):
    """A line of text on a page, or a row of a table, its cells parted by tabs."""

    text: str
    box: Box
    confidence: Confidence
    words: list[Word] | None = Field(
        None, exclude_if=lambda words: words is None, description="Its words, from left to right"
    )
    page: int | None = Field(
        None,
        exclude_if=lambda page: page is None,
        description="Which of several images it is on, from 1",
    )


class Rotation(WireModel):
    """How a page was turned before its lines were read."""

    degrees: Literal[0, 90, 180, 270] = Field(
        0, description="Degrees clockwise that the page was turned to stand upright"
    )
    skew: float = Field(
        0.0, description="Degrees clockwise by which the lines of the upright page lean"
    )


class PageText(WireModel):
    """The text of a page of a PDF, from its own text layer."""

    size: tuple[int, int]
    """Width, height in pixels of the image of the page; boxes are in its pixels."""
    blocks: list[list[Line]]
    """The lines of each paragraph, in reading order."""

    @property
    def lines(self) -> list[Line]:
        return [line for block in self.blocks for line in block]

    @property
    def text(self) -> str:
        return "\n\n".join("\n".join(line.text for line in block) for block in self.blocks)


class Image(WireModel):
    """An image of a conversation."""

    data: bytes = Field(repr=False)
    """The encoded image, in one of the formats of `common/images.py`."""
    text: PageText | None = Field(None, repr=False)
    """The text layer of the page that it shows, which a model that only reads need not read."""


class ToolCall(WireModel):
    """A call of one of the client's functions."""

    name: str
    arguments: str
    """A JSON object, as text."""


class Turn(WireModel):
    """One turn of a conversation: what one side says."""

    role: Literal["system", "user", "assistant", "tool"]
    """`tool`: what a function that was called returned."""
    parts: tuple[str | Image, ...]
    """Texts and images, in the order in which they were given."""
    calls: tuple[ToolCall, ...] = ()
    """The functions that the assistant called after its text."""


def single_turn(images: Iterable[bytes | Image], *texts: str) -> tuple[Turn, ...]:
    """A conversation of one turn: the user's images, then the texts about them."""
    parts = (image if isinstance(image, Image) else Image(data=image) for image in images)
    return (Turn(role="user", parts=(*parts, *texts)),)


class Constraint(WireModel):
    """What the text of an answer is held to."""

    kind: Literal["json", "regex", "choice", "grammar"]
    text: str
    """A JSON schema, a regular expression, a JSON array of texts, or a grammar in Lark's or GBNF's
    notation."""
    lenient: bool = False
    """Whether keywords of a schema that cannot be held to are passed over."""


class Tool(WireModel):
    """A function of the client's that a model may call."""

    name: str
    description: str | None
    parameters: dict[str, Any]
    """The JSON schema of its arguments, an object."""
    strict: bool = False
    """Whether all of the schema has to be held to."""


class Toolbox(WireModel):
    """The functions that a model may call in its answer."""

    tools: tuple[Tool, ...]
    callable: tuple[str, ...]
    """Names of those that may be called; the others are only described to the model."""
    required: bool = False
    """Whether the answer has to be a call."""
    parallel: bool = True
    """Whether it may be more than one."""


class Request(WireModel):
    """A page to read, or a conversation to continue."""

    task: Literal["ocr", "chat"]
    """`ocr` has one image and no text; what is asked of it is in `options`."""
    turns: tuple[Turn, ...]
    max_tokens: int
    """Most tokens of the answer."""
    language: str | None = None
    """ISO 639-1 code where there is one ("ru"), else ISO 639-3."""
    temperature: float | None = None
    """0 is greedy; None: as the model's authors have it."""
    top_p: float | None = None
    """Tokens are drawn from the likeliest ones that together have this probability; None: as the
    model's authors have it."""
    seed: int | None = None
    """The same seed draws the same tokens; the next answer of the same request the next seed's."""
    top_k: int | None = None
    """Tokens are drawn from so many of the likeliest ones; 0: from all. Here and below, None stands
    for what the model's checkpoint says, or for no effect."""
    min_p: float | None = None
    """Tokens are drawn from those that are at least this likely, the likeliest counting as 1."""
    repetition_penalty: float | None = None
    """Above 1, tokens of the prompt and of the answer become less likely."""
    frequency_penalty: float | None = None
    """Above 0, tokens of the answer become less likely each time they are there."""
    presence_penalty: float | None = None
    """Above 0, tokens of the answer become less likely once they are there."""
    min_tokens: int | None = None
    """The answer has at least so many tokens before it ends by itself or at a stop text."""
    logprobs: int | None = None
    """How many likeliest tokens are told in the place of each token, with their log probabilities;
    None tells no log probabilities."""
    n: int = 1
    """How many answers are made."""
    stop: tuple[str, ...] = ()
    """The answer ends before the first of these texts."""
    options: Options = Options()
    constraint: Constraint | None = None
    """What the text of the answer is held to. Of the reader, a schema asks for a page's fields."""
    toolbox: Toolbox | None = None
    says_source: bool = False
    """Whether the answer says where its text comes from."""

    @property
    def images(self) -> list[bytes]:
        """The encoded images of all turns, in order."""
        return [image.data for image in self.shown]

    @property
    def shown(self) -> list[Image]:
        """The images of all turns, in order."""
        return [part for turn in self.turns for part in turn.parts if isinstance(part, Image)]

    @property
    def question(self) -> str:
        """The text of the last turn; empty for the task `ocr`."""
        return "".join(part for part in self.turns[-1].parts if isinstance(part, str))


class Usage(WireModel):
    """Numbers of tokens."""

    prompt_tokens: int
    """All tokens that were prefilled, including the visual ones."""
    visual_tokens: int
    completion_tokens: int


class Block(WireModel):
    """A part of a page's layout: a paragraph, a table, a picture."""

    category: str
    box: Box
    text: str


class TokenLogprob(WireModel):
    """A token, and the logarithm of its probability."""

    data: bytes
    """Its text in UTF-8; it may begin or end in the middle of a character."""
    logprob: float


class ChosenToken(TokenLogprob):
    """A token of an answer."""

    likeliest: tuple[TokenLogprob, ...]
    """The likeliest tokens in its place, as many as were asked for."""


class Answer(WireModel):
    """What a model answers to a request."""

    text: str
    image_size: tuple[int, int]
    """Width and height of the upright image, the first of several; zeros where there was none."""
    finish_reason: FinishReason | None = None
    usage: Usage | None = None
    lines: list[Line] | None = None
    blocks: list[Block] | None = None
    rotation: Rotation | None = None
    """How the image, the first of several, was turned; boxes lie on it once it is turned."""
    prompt_used: bool | None = None
    """False where the model only reads, so that the question had no effect."""
    truncated: bool | None = None
    """True where a structured answer ended early, so that only its complete elements were kept."""
    source: TextSource | None = None
    """Where the text comes from, if the client asked for text layers."""
    warning: str | None = None
    calls: tuple[ToolCall, ...] = ()
    """The functions that the model calls, after its text."""
    tokens: tuple[ChosenToken, ...] | None = None
    """Its tokens, if their log probabilities were asked for."""
    others: "tuple[Answer, ...]" = ()
    """The other answers, where several were asked for; each has its own usage."""

    def with_warnings(self, warnings: Sequence[str | None]) -> "Answer":
        """This answer, with further sentences in its warning."""
        sentences = [sentence for sentence in (self.warning, *warnings) if sentence]
        return self.model_copy(update={"warning": " ".join(sentences) or None})


class CallPiece(WireModel):
    """The next of a function call that is still being made."""

    number: int
    """Of the call in the answer, from 0."""
    name: str | None = None
    """With the first piece of a call only."""
    arguments: str = ""


class Piece(WireModel):
    """The next text of an answer that is still being made; whole characters only."""

    text: str
    call: CallPiece | None = None
    """Or the next of a function call; the text is empty then."""
    index: int = 0
    """Which of several answers it is of, from 0."""
    tokens: tuple[ChosenToken, ...] | None = None
    """The tokens of the answer since the piece before, if log probabilities were asked for."""


Stream = AsyncGenerator[Piece | Answer, None]
"""Pieces as they are made, the answer last."""


State = Literal["unloaded", "loading", "loaded", "unavailable"]


class Status(WireModel):
    """The state of one runner."""

    state: State
    reason: str | None = None
    """One sentence: why it is unavailable, or, where it is unloaded, why the last load failed."""
    device: str | None = None
    dtype: str | None = None
    memory_bytes: int | None = None
    """Memory that the loaded model holds, including its KV cache."""
    rows: int = 0
    """Number of requests that are being worked on."""
    queued: int = 0
    """Number of requests that wait."""
    idle_seconds: float = 0.0
    """Seconds since the last request ended."""
    places: tuple[str, ...] = ()
    """The devices on which the model is or would be loaded, as "host/gpu0" or "host/cpu"."""
    needs_bytes: int = 0
    """Memory that loading it takes."""
    free_bytes: int = 0
    """Free memory of those devices."""
    is_upstream: bool = False
    """Whether a server of its own holds the model, which alone loads and unloads it."""


class Reply(WireModel):
    """The value that a runner's call returns."""

    outcome: Answer | Piece | Status | Failure
