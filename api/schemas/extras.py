"""Optional answer fields that the guide does not have.

A schema lists them after its own fields, which is their order in the JSON. A field is left out of
the JSON if the model has not filled it in.
"""

from typing import Annotated, Any

from pydantic import Field

from common.messages import Answer, Block, FinishReason, Line, Rotation, TextSource, Usage


def is_none(value: object) -> bool:
    return value is None


FinishReasonField = Annotated[FinishReason | None, Field(exclude_if=is_none)]
UsageField = Annotated[Usage | None, Field(exclude_if=is_none)]
LinesField = Annotated[list[Line] | None, Field(exclude_if=is_none)]
BlocksField = Annotated[list[Block] | None, Field(exclude_if=is_none)]
RotationField = Annotated[
    Rotation | None,
    Field(
        exclude_if=is_none,
        description="How the page was turned before it was read; `box` lies on the turned page, "
        "which `/preview` shows if it is given these degrees",
    ),
]
PromptUsedField = Annotated[
    bool | None,
    Field(exclude_if=is_none, description="False: this model reads, it cannot be asked"),
]
TruncatedField = Annotated[bool | None, Field(exclude_if=is_none)]
SourceField = Annotated[
    TextSource | None,
    Field(exclude_if=is_none, description="Where the text comes from, if `text_layer=auto`"),
]
WarningField = Annotated[str | None, Field(exclude_if=is_none)]

OPENAI_EXTRAS = {"lines", "blocks", "rotation", "prompt_used", "truncated", "source", "warning"}
"""The fields for which OpenAI's schema has no field of its own."""
EXTRAS = {"finish_reason", "usage"} | OPENAI_EXTRAS


def extras(answer: Answer, names: set[str] = EXTRAS) -> dict[str, Any]:
    """The fields that the model has filled in, as JSON."""
    return answer.model_dump(mode="json", include=names, exclude_none=True)
