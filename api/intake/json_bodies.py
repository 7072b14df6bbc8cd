"""Reads a JSON body within its limits, and turns it into the form that it stands for."""

import asyncio
from codecs import BOM_UTF8
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fastapi import Request
from pydantic_core import from_json, to_json

from api.intake.body import content_type, read_chunks
from common.failures import ErrorCode, Refusal
from settings import Settings

JSON = "application/json"
VALUE_MARKS = b",", b"[", b"{"
JSON_FIELDS = {"schema", "fields"}
"""Parameters whose text is JSON, which a JSON body may hold as such."""
MAX_VALUE_MARKS = 200_000
"""Bounds how many values a body becomes: while it is parsed no other thread runs."""


@dataclass(frozen=True)
class JsonForm:
    """A JSON object, as the multipart form with one file that says the same."""

    file: str
    """Its address where `is_url`, else its bytes in base64 or as a data: URL."""
    is_url: bool
    fields: list[tuple[str, str]]
    """Name and text of each parameter."""


def is_json(request: Request) -> bool:
    return content_type(request)[0] == JSON


async def read_json(request: Request, settings: Settings, max_files: int) -> Any:
    """The parsed body. max_files: how many files in base64 it has room for.

    Raises `Refusal`: UNSUPPORTED_TYPE if its content type is another one, TOO_LARGE while it
    arrives, BAD_PARAMETER if it is not valid JSON or has more than `MAX_VALUE_MARKS` commas and
    brackets.
    """
    if not is_json(request):
        raise Refusal(
            ErrorCode.UNSUPPORTED_TYPE, f"The body has to be JSON: send it as Content-Type {JSON}."
        )
    body = bytearray()
    max_bytes = max_files * (settings.max_file_bytes * 4 // 3)
    async for chunk in read_chunks(request, settings, max_files, max_bytes):
        body += chunk
    return await asyncio.to_thread(_parse, body)


async def read_json_form(request: Request, settings: Settings) -> JsonForm:
    """Reads a form with one file.

    Raises `Refusal`: BAD_PARAMETER if the body is not such a form, or as `read_json` does.
    """
    body = await read_json(request, settings, max_files=1)
    if not isinstance(body, Mapping):
        raise _refusal("The body has to be a JSON object.")
    image, url = body.get("image"), body.get("url")
    if (image is None) == (url is None):
        raise _refusal("Send one file: base64 or a data: URL in 'image', or its address in 'url'.")
    file = url if image is None else image
    if not isinstance(file, str):
        raise _refusal("Parameters 'image' and 'url' have to be texts.")
    fields = [
        (name, _field_text(name, value))
        for name, value in body.items()
        if name not in ("image", "url") and value is not None
    ]
    return JsonForm(file, image is None, fields)


def _parse(body: bytearray) -> Any:
    body = body.removeprefix(BOM_UTF8)  # PowerShell and others write it
    if sum(map(body.count, VALUE_MARKS)) > MAX_VALUE_MARKS:
        raise _refusal(f"The body has more than {MAX_VALUE_MARKS} commas and brackets: send less.")
    try:
        return from_json(body, allow_inf_nan=False)
    except ValueError:
        raise _refusal("The body is not valid JSON.") from None


def _field_text(name: str, value: Any) -> str:
    """The text that a form's field would hold instead of a JSON value."""
    match value:
        case dict() | list() if name in JSON_FIELDS:
            return to_json(value).decode()
        case bool():
            return str(value).lower()
        case str() | float():
            return str(value)
        case int() if abs(value) < 2**64:
            return str(value)
        case [*numbers] if numbers and all(type(number) is int for number in numbers):
            return ",".join(_field_text(name, number) for number in numbers)
        case _:
            raise _refusal(f"Parameter '{name}' has to be a text, a number, true or false.")


def _refusal(detail: str) -> Refusal:
    return Refusal(ErrorCode.BAD_PARAMETER, detail)
