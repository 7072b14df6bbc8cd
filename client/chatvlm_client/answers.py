"""Types of the service's answers. Fields that a newer service adds are kept."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from typing_extensions import TypedDict

Box = tuple[int, int, int, int]
"""x0, y0, x1, y1 in pixels of the upright page; x1 and y1 are exclusive."""


class Answer(BaseModel):
    """Base of all answers."""

    model_config = ConfigDict(frozen=True, extra="allow")


class Health(TypedDict):
    """Answer of `GET /health`; a dict, as in the users' guide."""

    __pydantic_config__ = ConfigDict(extra="allow")  # type: ignore[misc]

    status: str
    gpu_available: bool
    gpu_name: str | None
    models_loaded: int
    loaded_models: list[str]
    default_model: str
    unreachable_models: list[str]


class RunnerStatus(Answer):
    """State of one runner, or of all runners of a model together."""

    state: str
    """`unloaded`, `loading`, `loaded` or `unavailable`."""
    reason: str | None = None
    """Why the model cannot run, or why its last load failed."""
    device: str | None = None
    dtype: str | None = None
    memory_bytes: int | None = None
    rows: int = 0
    """Requests that the model is working on."""
    queued: int = 0
    """Requests that wait."""


class Replica(RunnerStatus):
    """A runner on another host."""

    url: str


class ModelInfo(RunnerStatus):
    """One model of the service, and its state."""

    id: str
    name: str
    params: str
    options: list[str] = []
    """Which of box, color, formatted, mode and prompt the model takes."""
    replicas: list[Replica] | None = None
    """Runners on other hosts; None if the model runs beside the gateway."""


class Models(Answer):
    """Answer of `GET /models`."""

    available: list[ModelInfo]
    loaded: list[str]
    default: str


class Done(Answer):
    """Answer to loading and unloading a model."""

    status: Literal["success"]
    message: str


class Usage(Answer):
    """Tokens of one request."""

    prompt_tokens: int
    visual_tokens: int
    completion_tokens: int


class Word(Answer):
    """One word of a line."""

    text: str
    box: Box
    confidence: float
    """0 to 1."""


class Line(Answer):
    """One line of text on a page, or a row of a table, its cells parted by tabs."""

    text: str
    box: Box
    confidence: float
    """0 to 1."""
    words: list[Word] | None = None
    """From left to right; None if the model does not say."""
    page: int | None = None
    """Number of the image that has the line, from 1, if the question had several images."""


class Rotation(Answer):
    """How a page was turned before it was read. Boxes lie on the turned page."""

    degrees: Literal[0, 90, 180, 270]
    """Clockwise."""
    skew: float
    """Degrees clockwise by which the lines of the turned page lean."""


class Block(Answer):
    """One element of a page's layout."""

    category: str
    box: Box
    text: str


class Extras(Answer):
    """Fields that not every model fills in; None if the model does not."""

    finish_reason: str | None = None
    """`stop`, `length`, `repetition` or `deadline`."""
    usage: Usage | None = None
    lines: list[Line] | None = None
    blocks: list[Block] | None = None
    rotation: Rotation | None = None
    prompt_used: bool | None = None
    """False if the model only reads and ignored the prompt."""
    truncated: bool | None = None
    """True if a structured answer was cut off; only its whole elements are given."""
    source: str | None = None
    """Where the text comes from, if `text_layer="auto"`: `image`, `text_layer` or `both`."""
    warning: str | None = None


class Page(Extras):
    """One page of a document that was read."""

    number: int
    """Its number in the document, from 1."""
    text: str
    processing_time: float
    """Seconds."""
    image_size: tuple[int, int]
    """Width and height of the drawn page, pixels."""
    status: Literal["success"]


class PageError(Answer):
    """One page of a document that could not be read."""

    number: int
    error: str
    status: Literal["error"]
    code: str | None = None


class Document(Extras):
    """Text of an image or a document."""

    text: str
    """The pages of a document are joined by a form feed."""
    processing_time: float
    """Seconds."""
    image_size: tuple[int, int]
    """Width and height of the upright image, or of the first page, pixels."""
    pages: list[Annotated[Page | PageError, Field(discriminator="status")]] | None = None
    """The pages of a document; None for an image."""


class Ocr(Document):
    """Answer of `POST /ocr`."""

    model: str
    language: str | None


class BatchItem(Document):
    """One file of a batch that was read."""

    filename: str
    status: Literal["success"]


class BatchError(Answer):
    """One file of a batch that could not be read."""

    filename: str
    error: str
    status: Literal["error"]
    code: str | None = None


class Batch(Answer):
    """Answer of `POST /batch/ocr`."""

    results: list[Annotated[BatchItem | BatchError, Field(discriminator="status")]]
    """In the order of the files."""
    total: int
    successful: int
    failed: int
    warning: str | None = None


class Piece(Answer):
    """One part of a streamed answer."""

    text: str
    """The text that this part adds."""


class Chat(Extras):
    """Answer of `POST /chat`."""

    response: str
    model: str
    processing_time: float
    """Seconds."""
    prompt: str


class Extraction(Extras):
    """Answer of `POST /extract`."""

    data: Any
    """JSON that fits the schema where `valid`; None if it was cut off."""
    valid: bool
    pages: list[int]
    """Numbers of the pages that were read, from 1."""
    model: str
    processing_time: float
    """Seconds."""
    text: str | None = None
    """What there is of an answer that was cut off."""
