"""The JSON of POST /extract."""

from typing import Any

from pydantic import BaseModel, Field

from api.schemas.extras import (
    FinishReasonField,
    LinesField,
    RotationField,
    SourceField,
    UsageField,
    WarningField,
    is_none,
)


class Extraction(BaseModel):
    """What was found on the pages together."""

    data: Any = Field(description="JSON that fits the schema where `valid`; null if it was cut off")
    valid: bool = Field(description="Whether `data` fits the schema")
    pages: list[int] = Field(description="Numbers of the pages that were read, from 1")
    model: str
    processing_time: float = Field(description="Seconds")
    text: str | None = Field(
        None, exclude_if=is_none, description="What there is of an answer that was cut off"
    )
    finish_reason: FinishReasonField = None
    usage: UsageField = None
    lines: LinesField = None
    rotation: RotationField = None
    source: SourceField = None
    warning: WarningField = None
