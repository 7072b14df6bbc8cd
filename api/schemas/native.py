"""What is answered: the guide's fields first, always there; ours after them."""

from typing import Any, Literal

from pydantic import BaseModel, Field

from common.messages import Block, FinishReason, Line, Usage


class Error(BaseModel):
    detail: str = Field(description="One sentence: what was wrong, what to do")


class Root(BaseModel):
    message: str = "ChatVLMLLM API"
    version: str = "1.0.0"
    docs: str = "/docs"
    health: str = "/health"


class Health(BaseModel):
    status: Literal["healthy", "degraded"]
    gpu_available: bool
    gpu_name: str | None
    models_loaded: int
    loaded_models: list[str]
    default_model: str
    unreachable_models: list[str] = Field(description="None of their runners answers")


class Standing(BaseModel):
    state: Literal["unloaded", "loading", "loaded", "unavailable"]
    reason: str | None = Field(
        None, description="Why it cannot run here, or why its last load failed"
    )
    device: str | None = None
    dtype: str | None = None
    memory_bytes: int | None = None
    rows: int = Field(0, description="Requests being worked on")
    queued: int = 0


class _Replica(BaseModel):
    url: str


class Replica(Standing, _Replica):
    """One runner on another host."""


class _ModelInfo(BaseModel):
    id: str
    name: str
    params: str


class ModelInfo(Standing, _ModelInfo):
    """The guide's fields come first."""

    options: list[str] = Field(description="What it takes of box, color, formatted and mode")
    replicas: list[Replica] | None = Field(
        None, description="Its runners on other hosts, where it is served there"
    )


class Models(BaseModel):
    available: list[ModelInfo]
    loaded: list[str]
    default: str


class Done(BaseModel):
    status: Literal["success"] = "success"
    message: str


class _End(BaseModel):
    finish_reason: FinishReason | None = None
    usage: Usage | None = None


class Remarks(BaseModel):
    """What a model can say of its answer beside how it ended; absent where it cannot."""

    lines: list[Line] | None = None
    blocks: list[Block] | None = None
    prompt_used: bool | None = Field(
        None, description="False: this model reads, it cannot be asked"
    )
    truncated: bool | None = None
    warning: str | None = None


class Extras(Remarks, _End):
    """What more a model can say of its answer; absent where it cannot."""


class _Page(BaseModel):
    number: int = Field(description="In the document, from 1")
    text: str
    processing_time: float = Field(description="Seconds")
    image_size: tuple[int, int] = Field(description="Width, height as it was drawn, pixels")
    status: Literal["success"] = "success"


class Page(Extras, _Page):
    """One page of a document, and what more the model says of it."""


class PageError(BaseModel):
    number: int
    error: str
    status: Literal["error"] = "error"


class _Document(BaseModel):
    pages: list[Page | PageError] | None = Field(None, description="Of a document only")


class _Ocr(BaseModel):
    text: str = Field(description="The pages of a document are joined by a form feed")
    model: str
    processing_time: float = Field(description="Seconds")
    image_size: tuple[int, int] = Field(description="Width, height of the upright page, pixels")
    language: str | None = Field(description="The hint as it was given")


class Ocr(_Document, Extras, _Ocr):
    """The guide's fields come first."""


class Preview(BaseModel):
    image: str = Field(description="The page as a data: URL of a JPEG, shrunk to fit a screen")
    image_size: list[int] = Field(
        min_length=2, max_length=2, description="Width, height of the upright page, pixels"
    )
    page: int = Field(description="Its number, from 1")
    pages: int = Field(description="How many there are; an image is one")


class _Chat(BaseModel):
    response: str
    model: str
    processing_time: float = Field(description="Seconds")
    prompt: str


class Chat(Extras, _Chat):
    """The guide's fields come first."""


class ChatPiece(BaseModel):
    text: str = Field(description="What the answer gained; whole characters")


class _BatchItem(BaseModel):
    filename: str
    text: str
    processing_time: float = Field(description="Seconds")
    image_size: tuple[int, int]
    status: Literal["success"] = "success"


class BatchItem(_Document, Extras, _BatchItem):
    """The guide's fields come first."""


class BatchError(BaseModel):
    filename: str
    error: str
    status: Literal["error"] = "error"


class Batch(BaseModel):
    results: list[BatchItem | BatchError]
    total: int
    successful: int
    failed: int


ERRORS: dict[int | str, dict[str, Any]] = {
    400: {"model": Error, "description": "Bad image or parameter"},
    404: {"model": Error, "description": "Unknown model"},
    413: {"model": Error, "description": "A file or the body is over its limit"},
    500: {"model": Error, "description": "A fault of the service"},
    503: {"model": Error, "description": "Busy, or the model cannot run here; see Retry-After"},
    504: {"model": Error, "description": "The request's time limit passed"},
}
