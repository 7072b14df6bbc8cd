"""Builds the request of each route, and parses its answer. Opens no connection."""

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, Literal, TypedDict, TypeVar
from urllib.parse import quote

import httpx
from pydantic import TypeAdapter, ValidationError

from chatvlm_client.answers import Batch, Box, Chat, Done, Extraction, Health, Models, Ocr
from chatvlm_client.errors import unexpected_answer

T = TypeVar("T")
File = str | os.PathLike[str] | bytes
"""A path, or the bytes of the file."""


class OcrOptions(TypedDict, total=False):
    """Options of a reading request; None leaves one out."""

    model: str | None
    """Id of a model that `models()` lists; by default the service's default model."""
    language: str | None
    """Hint: a language's name or code, "Russian" or "ru"."""
    pages: str | None
    """Pages of a document, as "1-3,7"; by default all."""
    text_layer: Literal["auto", "never"] | None
    """Whether a PDF page's own text layer is taken where it is sound; by default never."""
    box: Box | None
    color: Literal["red", "green", "blue"] | None
    formatted: bool | None
    mode: Literal["ocr", "layout"] | None
    prompt: str | None
    """Read with these words instead of the service's own."""
    max_tokens: int | None
    """Most tokens of the answer, for each page; by default the model's own number."""


class ChatOptions(TypedDict, total=False):
    """Options of a question; None leaves one out."""

    model: str | None
    pages: str | None
    """Pages of a document, as "1-3,7"; by default the first."""
    text_layer: Literal["auto", "never"] | None
    """Whether a PDF page's own text layer is taken where it is sound; by default never."""
    temperature: float | None
    max_tokens: int | None


class ExtractOptions(TypedDict, total=False):
    """Options of an extraction; None leaves one out."""

    model: str | None
    pages: str | None
    """Pages of a document, as "1-3,7"; by default all."""
    text_layer: Literal["auto", "never"] | None
    """Whether a PDF page's own text layer is taken where it is sound; by default never."""
    max_tokens: int | None


@dataclass(frozen=True)
class Call(Generic[T]):
    """One request, and the type of its answer."""

    method: str
    path: str
    answer: type[T]
    data: Mapping[str, str] = field(default_factory=dict)
    files: list[tuple[str, tuple[str, bytes]]] = field(default_factory=list)

    def request(self) -> dict[str, Any]:
        """Arguments of httpx's `stream`."""
        return {
            "method": self.method,
            "url": self.path,
            "data": self.data,
            "files": self.files,
        }

    def parse(self, response: httpx.Response) -> T:
        """The answer in a successful response whose body has been read. Raises `ChatVLMError`."""
        try:
            return TypeAdapter(self.answer).validate_json(response.content)
        except ValidationError as error:
            raise unexpected_answer(response) from error


def health() -> Call[Health]:
    return Call("GET", "/health", Health)


def models() -> Call[Models]:
    return Call("GET", "/models", Models)


def load(model: str) -> Call[Done]:
    return Call("POST", _path(model), Done)


def unload(model: str) -> Call[Done]:
    return Call("DELETE", _path(model), Done)


def read(file: File, options: OcrOptions) -> Call[Ocr]:
    return Call("POST", "/ocr", Ocr, _fields(options, OcrOptions), _parts("file", [file]))


def batch(files: Iterable[File], options: OcrOptions) -> Call[Batch]:
    data = _fields(options, OcrOptions)
    return Call("POST", "/batch/ocr", Batch, data, _parts("files", files))


def ask(file: File, prompt: str, options: ChatOptions, stream: bool = False) -> Call[Chat]:
    data = (
        _fields(options, ChatOptions) | {"prompt": prompt} | ({"stream": "true"} if stream else {})
    )
    return Call("POST", "/chat", Chat, data, _parts("file", [file]))


def extract(
    file: File, wanted: Mapping[str, Any] | Sequence[str], options: ExtractOptions
) -> Call[Extraction]:
    """wanted: a JSON schema, or names of fields."""
    name = "schema" if isinstance(wanted, Mapping) else "fields"
    data = _fields(options, ExtractOptions) | {name: json.dumps(wanted, ensure_ascii=False)}
    return Call("POST", "/extract", Extraction, data, _parts("file", [file]))


def _path(model: str) -> str:
    return f"/models/{quote(model, safe='')}"


def _fields(options: Mapping[str, Any], known: type) -> dict[str, str]:
    """Options as form fields. Raises `TypeError` for an unknown option."""
    if unknown := options.keys() - known.__annotations__.keys():
        raise TypeError(f"Unknown option {' and '.join(map(repr, sorted(unknown)))}.")
    return {name: _text(value) for name, value in options.items() if value is not None}


def _text(value: object) -> str:
    match value:
        case bool():
            return str(value).lower()
        case tuple() | list():
            return ",".join(map(str, value))
    return str(value)


def _parts(name: str, files: Iterable[File]) -> list[tuple[str, tuple[str, bytes]]]:
    """Files as parts of a multipart form. Raises `OSError`."""
    return [(name, _part(file)) for file in files]


def _part(file: File) -> tuple[str, bytes]:
    if isinstance(file, bytes):
        return "file", file
    path = Path(file)
    return path.name, path.read_bytes()
