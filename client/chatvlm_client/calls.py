"""What is asked, and how its answer is read: all that is known of HTTP without a connection."""

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, Literal, TypedDict, TypeVar
from urllib.parse import quote

import httpx
from pydantic import TypeAdapter, ValidationError

from chatvlm_client.answers import Batch, Box, Chat, Done, Health, Models, Ocr, Piece
from chatvlm_client.errors import ChatVLMError, Detail, broken_off, strange

T = TypeVar("T")
File = str | os.PathLike[str] | bytes
"""A path, or what is in the file."""


class OcrOptions(TypedDict, total=False):
    """None is as good as absent."""

    model: str | None
    """Of `models()`; else the service's default."""
    language: str | None
    """Hint: its name or code, "Russian" or "ru"."""
    pages: str | None
    """Of a document, "1-3,7"; else all."""
    box: Box | None
    color: Literal["red", "green", "blue"] | None
    formatted: bool | None
    mode: Literal["ocr", "layout"] | None


class ChatOptions(TypedDict, total=False):
    """None is as good as absent."""

    model: str | None
    pages: str | None
    """Of a document; else the first."""
    temperature: float | None
    max_tokens: int | None


@dataclass(frozen=True)
class Call(Generic[T]):
    method: str
    path: str
    answer: type[T]
    data: Mapping[str, str] = field(default_factory=dict)
    files: list[tuple[str, tuple[str, bytes]]] = field(default_factory=list)

    def request(self) -> dict[str, Any]:
        """As httpx's `stream` takes it."""
        return {
            "method": self.method,
            "url": self.path,
            "data": self.data,
            "files": self.files,
        }

    def read(self, response: httpx.Response) -> T:
        """response: a success, its body read. Raises `ChatVLMError`."""
        try:
            return TypeAdapter(self.answer).validate_json(response.content)
        except ValidationError as error:
            raise strange(response) from error


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


class Events:
    """The events of a streamed answer, out of chunks of any size."""

    def __init__(self, response: httpx.Response) -> None:
        self._response = response
        self._rest = b""
        self._name = b""
        self._complete = False

    def feed(self, chunk: bytes) -> Iterator[Piece | Chat]:
        """Raises `ChatVLMError` with the service's sentence, or for what is no event."""
        # Not httpx's lines: it breaks them at U+2028 and its like, which the data may hold.
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        for line in lines:
            name, _, value = line.rstrip(b"\r").partition(b": ")
            if name == b"event":
                self._name = value
            elif name == b"data":
                yield from self._event(value)

    def end(self) -> None:
        """Raises `ChatVLMError` where the answer has not come."""
        if not self._complete:
            raise broken_off(self._response.request)

    def _event(self, data: bytes) -> Iterator[Piece | Chat]:
        try:
            match self._name:
                case b"piece":
                    yield Piece.model_validate_json(data)
                case b"answer":
                    self._complete = True
                    yield Chat.model_validate_json(data)
                case b"error":
                    raise ChatVLMError(Detail.model_validate_json(data).detail)
        except ValidationError as error:
            raise strange(self._response) from error


def _path(model: str) -> str:
    return f"/models/{quote(model, safe='')}"


def _fields(options: Mapping[str, Any], known: type) -> dict[str, str]:
    """As a form says them. Raises `TypeError` for an option that there is not."""
    if unknown := options.keys() - known.__annotations__.keys():
        raise TypeError(f"There is no option {' or '.join(map(repr, sorted(unknown)))}.")
    return {name: _text(value) for name, value in options.items() if value is not None}


def _text(value: object) -> str:
    match value:
        case bool():
            return str(value).lower()
        case tuple() | list():
            return ",".join(map(str, value))
    return str(value)


def _parts(name: str, files: Iterable[File]) -> list[tuple[str, tuple[str, bytes]]]:
    """Raises `OSError`."""
    return [(name, _part(file)) for file in files]


def _part(file: File) -> tuple[str, bytes]:
    if isinstance(file, bytes):
        return "file", file
    path = Path(file)
    return path.name, path.read_bytes()
