"""What the service answers. A field that a newer service adds is kept, too."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field
from typing_extensions import TypedDict

Box = tuple[int, int, int, int]
"""x0, y0, x1, y1 in pixels of the upright page; x1 and y1 lie outside."""


class Answer(BaseModel):
    model_config = ConfigDict(frozen=True, extra="allow")


class Health(TypedDict):
    """A dict, as in the guide."""

    __pydantic_config__ = ConfigDict(extra="allow")  # type: ignore[misc]

    status: str
    gpu_available: bool
    gpu_name: str | None
    models_loaded: int
    loaded_models: list[str]
    default_model: str
    unreachable_models: list[str]


class Standing(Answer):
    state: str
    """unloaded, loading, loaded or unavailable."""
    reason: str | None = None
    """Why it cannot run there."""
    device: str | None = None
    dtype: str | None = None
    memory_bytes: int | None = None
    rows: int = 0
    """Requests being worked on."""
    queued: int = 0


class Replica(Standing):
    """A runner on another host."""

    url: str


class ModelInfo(Standing):
    id: str
    name: str
    params: str
    options: list[str] = []
    """What it takes of box, color, formatted and mode."""
    replicas: list[Replica] | None = None
    """Where it is served by other hosts."""


class Models(Answer):
    available: list[ModelInfo]
    loaded: list[str]
    default: str


class Done(Answer):
    status: Literal["success"]
    message: str


class Usage(Answer):
    prompt_tokens: int
    visual_tokens: int
    completion_tokens: int


class Line(Answer):
    text: str
    box: Box
    confidence: float
    """0 to 1."""
    page: int | None = None
    """Which of several images it is on, from 1."""


class Block(Answer):
    category: str
    box: Box
    text: str


class Extras(Answer):
    """What more a model can say; None where it cannot."""

    finish_reason: str | None = None
    """stop, length, repetition or deadline."""
    usage: Usage | None = None
    lines: list[Line] | None = None
    blocks: list[Block] | None = None
    prompt_used: bool | None = None
    """False: the model reads, it cannot be asked."""
    truncated: bool | None = None
    warning: str | None = None


class Page(Extras):
    number: int
    """In the document, from 1."""
    text: str
    processing_time: float
    """Seconds."""
    image_size: tuple[int, int]
    """Width, height in pixels, as it was drawn."""
    status: Literal["success"]


class PageError(Answer):
    number: int
    error: str
    status: Literal["error"]


class Document(Extras):
    text: str
    """The pages of a document are joined by a form feed."""
    processing_time: float
    """Seconds."""
    image_size: tuple[int, int]
    """Width, height in pixels, upright; of the first page."""
    pages: list[Annotated[Page | PageError, Field(discriminator="status")]] | None = None
    """Of a document only."""


class Ocr(Document):
    model: str
    language: str | None


class BatchItem(Document):
    filename: str
    status: Literal["success"]


class BatchError(Answer):
    filename: str
    error: str
    status: Literal["error"]


class Batch(Answer):
    results: list[Annotated[BatchItem | BatchError, Field(discriminator="status")]]
    """In the order of the files."""
    total: int
    successful: int
    failed: int


class Piece(Answer):
    text: str
    """What the answer gained."""


class Chat(Extras):
    response: str
    model: str
    processing_time: float
    """Seconds."""
    prompt: str
