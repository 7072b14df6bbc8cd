"""One parameter, from form or query: the guide sends the same one either way."""

from collections.abc import Iterable
from contextlib import suppress
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from starlette.datastructures import QueryParams

from api.errors import validation_sentence
from api.intake.json_bodies import JSON
from common.failures import ErrorCode, Refusal
from common.messages import Box, Options

FILE_IN_JSON = {
    "image": {"type": "string", "description": "The file in base64, or as a data: URL"},
    "url": {"type": "string", "description": "Its https address, where the operator allows it"},
}
MAX_QUERY_LENGTH = 4_000
"""Characters; percent-encoded, they still fit the 64 KiB that the server takes for a URL."""


def _box(text: str) -> Box:
    with suppress(ValueError):
        x0, y0, x1, y1 = (int(part) for part in text.split(","))
        if 0 <= x0 < x1 and 0 <= y0 < y1:
            return x0, y0, x1, y1
    raise ValueError("needs x0,y0,x1,y1 with 0 <= x0 < x1 and 0 <= y0 < y1")


def _pages(text: str) -> tuple[tuple[int, int], ...]:
    with suppress(ValueError):
        ranges = [part.partition("-") for part in text.split(",")]
        pages = tuple((int(first), int(last if dash else first)) for first, dash, last in ranges)
        if all(0 < first <= last for first, last in pages):
            return pages
    raise ValueError("needs numbers and ranges of pages from 1, such as 1-3,7")


PagesText = Annotated[
    tuple[tuple[int, int], ...],
    BeforeValidator(_pages, json_schema_input_type=str),
]
BoxText = Annotated[Box, BeforeValidator(_box, json_schema_input_type=str)]
ModelId = Annotated[
    str | None, Field(max_length=100, description="Id of a model of `/models`; else the default")
]


class OcrParams(Options):
    model_config = ConfigDict(extra="ignore")

    model: ModelId = None
    language: str | None = Field(
        None, max_length=100, description="Hint: a language's name or code, such as Russian or ru"
    )
    pages: PagesText | None = Field(
        None, description="Pages of a document, as 1-3,7; by default all"
    )
    box: BoxText | None = Field(None, description=Options.model_fields["box"].description)

    @property
    def options(self) -> Options:
        asked = self.model_dump(include=set(Options.model_fields), exclude_defaults=True)
        return Options.model_validate(asked)


class PreviewParams(BaseModel):
    page: int = Field(1, ge=1, le=2**31 - 1, description="Number of the page, from 1")


class ChatParams(BaseModel):
    model: ModelId = None
    pages: PagesText | None = Field(
        None, description="Pages of a document, as 1-3,7; by default the first"
    )
    prompt: str = Field("Describe this image", max_length=20_000, description="What is asked")
    temperature: float = Field(
        0.7, ge=0, le=1, allow_inf_nan=False, description="0 is greedy, 1 the model's own spread"
    )
    max_tokens: int = Field(512, ge=1, le=4096, description="Most tokens of the answer")
    stream: bool = Field(False, description="Answer in server-sent events, as the text is made")


Params = TypeVar("Params", bound=BaseModel)


def parse(
    params: type[Params], query: QueryParams, fields: Iterable[tuple[str, str]] = ()
) -> Params:
    """An empty value counts as absent, one that is not known is passed over.

    Raises `Refusal` (BAD_PARAMETER) for a bad value, or the same parameter given twice with
    different values.
    """
    given: dict[str, str] = {}
    for name, value in [*query.multi_items(), *fields]:
        if value and given.setdefault(name, value) != value and name in params.model_fields:
            raise Refusal(
                ErrorCode.BAD_PARAMETER, f"Parameter '{name}' is given twice with different values."
            )
    try:
        return params.model_validate(given)
    except ValidationError as error:
        raise Refusal(ErrorCode.BAD_PARAMETER, validation_sentence(error.errors()[0])) from error


def documented(params: type[BaseModel], file_field: str, max_files: int) -> dict[str, Any]:
    """OpenAPI of a route that takes `params` from form or query, and files."""
    schema = params.model_json_schema(mode="validation")
    properties: dict[str, Any] = schema["properties"]
    binary = {"type": "string", "format": "binary"}
    several = {"type": "array", "items": binary, "minItems": 1, "maxItems": max_files}
    form = {
        "type": "object",
        "properties": {file_field: several if max_files > 1 else binary, **properties},
        "required": [file_field],
    }
    content: dict[str, Any] = {"multipart/form-data": {"schema": form}}
    if max_files == 1:
        content[JSON] = {
            "schema": {
                "type": "object",
                "properties": {**FILE_IN_JSON, **properties},
                "oneOf": [{"required": [name]} for name in FILE_IN_JSON],
            }
        }
    return {
        "parameters": [
            {
                "name": name,
                "in": "query",
                "required": False,
                "description": f"{value.get('description', '')} (form field or query parameter)",
                "schema": _for_query(value),
            }
            for name, value in properties.items()
        ],
        "requestBody": {"required": True, "content": content},
    }


def _for_query(schema: dict[str, Any]) -> dict[str, Any]:
    length = (
        {"maxLength": MAX_QUERY_LENGTH} if schema.get("maxLength", 0) > MAX_QUERY_LENGTH else {}
    )
    return {key: part for key, part in schema.items() if key != "description"} | length
