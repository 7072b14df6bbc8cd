"""The JSON of docs/rest_api_guide.md. Its fields come first and are always there.

Classes repeat the optional fields instead of inheriting them, because inherited fields come first
in the JSON.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from api.schemas.extras import (
    BlocksField,
    FinishReasonField,
    LinesField,
    PromptUsedField,
    RotationField,
    SourceField,
    TruncatedField,
    UsageField,
    WarningField,
    is_none,
)
from common.failures import ErrorCode
from common.messages import State

VERSION = "1.0.0"
"""Of the API."""


class Error(BaseModel):
    detail: str = Field(description="One sentence: what was wrong, what to do")
    code: ErrorCode = Field(description="The kind of error, as a word for programs")


class Version(BaseModel):
    version: str = VERSION


class Root(BaseModel):
    message: str = "ChatVLMLLM API"
    version: str = VERSION
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


class Replica(BaseModel):
    """One runner on another host."""

    url: str
    state: State
    reason: str | None = Field(description="Why it cannot run here, or why its last load failed")
    device: str | None
    dtype: str | None
    memory_bytes: int | None
    rows: int = Field(description="Requests being worked on")
    queued: int


class ModelInfo(BaseModel):
    id: str
    name: str
    params: str
    state: State
    reason: str | None = Field(description="Why it cannot run here, or why its last load failed")
    device: str | None
    dtype: str | None
    memory_bytes: int | None
    rows: int = Field(description="Requests being worked on")
    queued: int
    options: list[str] = Field(description="What it takes of box, color, formatted and mode")
    replicas: list[Replica] | None = Field(
        description="Its runners on other hosts, where it is served there"
    )


class Models(BaseModel):
    available: list[ModelInfo]
    loaded: list[str]
    default: str


class Done(BaseModel):
    status: Literal["success"] = "success"
    message: str


class Page(BaseModel):
    """One page of a document."""

    number: int = Field(description="In the document, from 1")
    text: str
    processing_time: float = Field(description="Seconds")
    image_size: tuple[int, int] = Field(description="Width, height as it was drawn, pixels")
    status: Literal["success"] = "success"
    finish_reason: FinishReasonField = None
    usage: UsageField = None
    lines: LinesField = None
    blocks: BlocksField = None
    rotation: RotationField = None
    prompt_used: PromptUsedField = None
    truncated: TruncatedField = None
    source: SourceField = None
    warning: WarningField = None


class PageError(BaseModel):
    number: int
    error: str
    status: Literal["error"] = "error"
    code: ErrorCode


PagesField = Annotated[
    list[Page | PageError] | None,
    Field(exclude_if=is_none, description="Of a document only"),
]


class Ocr(BaseModel):
    text: str = Field(description="The pages of a document are joined by a form feed")
    model: str
    processing_time: float = Field(description="Seconds")
    image_size: tuple[int, int] = Field(description="Width, height of the upright page, pixels")
    language: str | None = Field(description="The hint as it was given")
    finish_reason: FinishReasonField = None
    usage: UsageField = None
    lines: LinesField = None
    blocks: BlocksField = None
    rotation: RotationField = None
    prompt_used: PromptUsedField = None
    truncated: TruncatedField = None
    source: SourceField = None
    warning: WarningField = None
    pages: PagesField = None


class Preview(BaseModel):
    image: str = Field(description="The page as a data: URL of a JPEG, shrunk to fit a screen")
    image_size: list[int] = Field(
        min_length=2, max_length=2, description="Width, height of the turned page, pixels"
    )
    page: int = Field(description="Its number, from 1")
    pages: int = Field(description="How many there are; an image is one")
    warning: WarningField = None


class Chat(BaseModel):
    response: str
    model: str
    processing_time: float = Field(description="Seconds")
    prompt: str
    finish_reason: FinishReasonField = None
    usage: UsageField = None
    lines: LinesField = None
    blocks: BlocksField = None
    rotation: RotationField = None
    prompt_used: PromptUsedField = None
    truncated: TruncatedField = None
    source: SourceField = None
    warning: WarningField = None


class ChatPiece(BaseModel):
    text: str = Field(description="What the answer has gained, in whole characters")


class BatchItem(BaseModel):
    filename: str
    text: str
    processing_time: float = Field(description="Seconds")
    image_size: tuple[int, int]
    status: Literal["success"] = "success"
    finish_reason: FinishReasonField = None
    usage: UsageField = None
    lines: LinesField = None
    blocks: BlocksField = None
    rotation: RotationField = None
    prompt_used: PromptUsedField = None
    truncated: TruncatedField = None
    source: SourceField = None
    warning: WarningField = None
    pages: PagesField = None


class BatchError(BaseModel):
    filename: str
    error: str
    status: Literal["error"] = "error"
    code: ErrorCode


class Batch(BaseModel):
    results: list[BatchItem | BatchError]
    total: int
    successful: int
    failed: int
    warning: WarningField = None


ERRORS: dict[int | str, dict[str, Any]] = {
    400: {"model": Error, "description": "Bad image or parameter"},
    404: {"model": Error, "description": "Unknown model"},
    413: {"model": Error, "description": "A file or the body is over its limit"},
    415: {"model": Error, "description": "The body's content type or encoding is not taken"},
    500: {"model": Error, "description": "A fault of the service"},
    503: {"model": Error, "description": "Busy, or the model cannot run here; see Retry-After"},
    504: {"model": Error, "description": "The request's time limit passed"},
}
