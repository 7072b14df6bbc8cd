"""The parameters of each kind of form. Each may come in the form or in the query."""

from collections.abc import Iterable
from contextlib import suppress
from typing import Annotated, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic_core import from_json
from starlette.datastructures import QueryParams

from api.defaults import (
    MAX_TOKENS,
    MOST_READING_TOKENS,
    TEMPERATURE,
    TEXT_LAYER,
    TextLayerChoice,
)
from api.intake.wrong_parameters import validation_sentence
from common.failures import ErrorCode, Refusal
from common.messages import Box, Options


def _parse_box(text: str) -> Box:
    with suppress(ValueError):
        x0, y0, x1, y1 = (int(part) for part in text.split(","))
        if 0 <= x0 < x1 and 0 <= y0 < y1:
            return x0, y0, x1, y1
    raise ValueError("needs x0,y0,x1,y1 with 0 <= x0 < x1 and 0 <= y0 < y1")


def _parse_page_ranges(text: str) -> tuple[tuple[int, int], ...]:
    with suppress(ValueError):
        ranges = [part.partition("-") for part in text.split(",")]
        pages = tuple((int(first), int(last if dash else first)) for first, dash, last in ranges)
        if all(0 < first <= last for first, last in pages):
            return pages
    raise ValueError("needs numbers and ranges of pages from 1, such as 1-3,7")


PageRangesText = Annotated[
    tuple[tuple[int, int], ...],
    BeforeValidator(_parse_page_ranges, json_schema_input_type=str),
]
"""First and last page of each range, from 1; sent as text such as 1-3,7."""
BoxText = Annotated[Box, BeforeValidator(_parse_box, json_schema_input_type=str)]
"""Sent as text: x0,y0,x1,y1."""
ModelId = Annotated[
    str | None, Field(max_length=100, description="Id of a model of `/models`; else the default")
]


class OcrParameters(Options):
    """Parameters of a reading request: those of every model, and the options of some families."""

    model_config = ConfigDict(extra="ignore")

    model: ModelId = None
    language: str | None = Field(
        None, max_length=100, description="Hint: a language's name or code, such as Russian or ru"
    )
    pages: PageRangesText | None = Field(
        None, description="Pages of a document, as 1-3,7; by default all"
    )
    text_layer: TextLayerChoice = Field(
        "never", description=f"{TEXT_LAYER}. With other options, the image is read"
    )
    box: BoxText | None = Field(None, description=Options.model_fields["box"].description)
    max_tokens: int | None = Field(
        None,
        ge=1,
        le=MOST_READING_TOKENS,
        description="Most tokens of the answer, for each page; by default the model's own number",
    )

    @property
    def options(self) -> Options:
        """The options that differ from their defaults; only those count as asked for."""
        asked = self.model_dump(include=set(Options.model_fields), exclude_defaults=True)
        return Options(**asked)


def _parse_degrees(text: object) -> object:
    return int(text) if isinstance(text, str) and text.isdecimal() else text


Degrees = Annotated[Literal[0, 90, 180, 270], BeforeValidator(_parse_degrees)]


class PreviewParameters(BaseModel):
    page: int = Field(1, ge=1, le=2**31 - 1, description="Number of the page, from 1")
    rotation: Degrees = Field(
        0,
        description="Degrees clockwise by which the page is turned, as `rotation.degrees` of an "
        "answer says: the boxes of its lines lie on the page that is shown then",
    )


class ChatParameters(BaseModel):
    model: ModelId = None
    pages: PageRangesText | None = Field(
        None, description="Pages of a document, as 1-3,7; by default the first"
    )
    text_layer: TextLayerChoice = Field(
        "never", description=f"{TEXT_LAYER}. A vision-language model looks at the image"
    )
    prompt: str = Field("Describe this image", max_length=20_000, description="What is asked")
    temperature: float | None = Field(
        None,
        ge=0,
        le=1,
        allow_inf_nan=False,
        description=f"0 is greedy, 1 the model's own spread. {TEMPERATURE}",
    )
    max_tokens: int = Field(512, ge=1, le=4096, description="Most tokens of the answer")
    stream: bool = Field(False, description="Answer in server-sent events, as the text is made")


def _parse_names(text: str) -> tuple[str, ...]:
    names: object = None
    if text.lstrip().startswith("["):
        with suppress(ValueError):
            names = from_json(text)
    else:
        names = [name.strip() for name in text.split(",")]
    if isinstance(names, list) and names and all(isinstance(n, str) and n.strip() for n in names):
        return tuple(dict.fromkeys(names))
    raise ValueError("needs names with commas between them, or a JSON array of names")


NamesText = Annotated[
    tuple[str, ...],
    BeforeValidator(_parse_names, json_schema_input_type=str),
]
"""Sent as text: names with commas between them, or a JSON array of names."""


class ExtractParameters(BaseModel):
    model: ModelId = None
    json_schema: str | None = Field(
        None,
        alias="schema",
        max_length=100_000,
        description="JSON schema of what is extracted; or send `fields`",
    )
    fields: NamesText | None = Field(
        None, max_length=200, description="Names of the fields, as `number,date,total`"
    )
    pages: PageRangesText | None = Field(
        None, description="Pages of a document, as 1-3,7; by default all"
    )
    text_layer: TextLayerChoice = Field(
        "never", description=f"{TEXT_LAYER}. A vision-language model looks at the image"
    )
    max_tokens: int = Field(
        MAX_TOKENS, ge=1, le=4096, description="Most tokens of the extracted JSON"
    )


Parameters = TypeVar("Parameters", bound=BaseModel)


def parse(
    kind: type[Parameters], query: QueryParams, fields: Iterable[tuple[str, str]] = ()
) -> Parameters:
    """The parameters of one request, checked.

    An empty value counts as absent; a name that `kind` does not have is passed over.
    Raises `Refusal` (BAD_PARAMETER) for a bad value, or if the same parameter is given twice
    with different values.
    """
    names = {field.alias or name for name, field in kind.model_fields.items()}
    given: dict[str, str] = {}
    again: list[tuple[str, str]] = []
    for name, value in [*query.multi_items(), *fields]:
        if value and given.setdefault(name, value) != value and name in names:
            again.append((name, value))
    parsed = _validated(kind, given)
    for name, value in again:
        # "False" and "false" are the same.
        if _validated(kind, given | {name: value}) != parsed:
            raise Refusal(
                ErrorCode.BAD_PARAMETER, f"Parameter '{name}' is given twice with different values."
            )
    return parsed


def _validated(kind: type[Parameters], given: dict[str, str]) -> Parameters:
    try:
        return kind.model_validate(given)
    except ValidationError as error:
        raise Refusal(ErrorCode.BAD_PARAMETER, validation_sentence(error.errors()[0])) from error
