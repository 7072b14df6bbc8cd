"""A request's body where it is JSON: read within its limit, and as what a form would say."""

import asyncio
import binascii
import re
from collections.abc import Mapping
from typing import Any

from fastapi import Request
from multipart import parse_options_header
from pydantic_core import from_json

from api.intake.fetching import Fetcher
from api.intake.uploads import FORM_OVERHEAD_BYTES, Form, Upload, UploadReader, arriving, too_large
from common.failures import ErrorCode, Refusal
from settings import Settings

JSON = "application/json"
MARKS = b",", b"[", b"{"
MAX_MARKS = 200_000
"""They bound how many values a body becomes: while it is parsed no other thread runs."""
_DATA_URL = re.compile(r"data:[^,]*?(;base64)?,", re.IGNORECASE)


async def read_form(request: Request, settings: Settings, fetcher: Fetcher) -> Form:
    """One file and its parameters, from a multipart form or from JSON. Raises `Refusal`."""
    content_type, _ = parse_options_header(request.headers.get("content-type", ""))
    if content_type != JSON:
        return await UploadReader(settings, "file", 1).read(request)
    body = await read_json(request, settings, 1)
    if not isinstance(body, Mapping):
        raise _refused("The body has to be a JSON object.")
    image, url = body.get("image"), body.get("url")
    if (image is None) == (url is None):
        raise _refused("Send one file: base64 or a data: URL in 'image', or its address in 'url'.")
    file = url if image is None else image
    if not isinstance(file, str):
        raise _refused("Parameters 'image' and 'url' have to be texts.")
    if image is None:
        data = await fetcher.fetch(file)
    else:
        data = await asyncio.to_thread(decoded, file, "image", settings)
    fields = [
        (name, _text(name, value))
        for name, value in body.items()
        if name not in ("image", "url") and value is not None
    ]
    return Form([Upload("image", data)], fields)


async def read_json(request: Request, settings: Settings, max_files: int) -> Any:
    """The body, with room for so many files in base64.

    Raises `Refusal`: TOO_LARGE while it arrives, BAD_PARAMETER for what is no JSON, or too much
    of it.
    """
    body = bytearray()
    most = max_files * (settings.max_file_bytes * 4 // 3)
    async for chunk in arriving(request, settings, max_files, most):
        body += chunk
    return await asyncio.to_thread(_parsed, body)


def _parsed(body: bytearray) -> Any:
    if sum(map(body.count, MARKS)) > MAX_MARKS:
        raise _refused(f"The body has more than {MAX_MARKS} commas and brackets: send less.")
    try:
        return from_json(body, allow_inf_nan=False)
    except ValueError:
        raise _refused("The body is not valid JSON.") from None


def decoded(text: str, name: str, settings: Settings) -> bytes:
    """The file that base64 or a data: URL holds (RFC 2397).

    Raises `Refusal`: BAD_PARAMETER that says `name`, or TOO_LARGE.
    """
    if start := _DATA_URL.match(text):
        if not start[1]:
            raise _refused(f"Parameter '{name}': a data: URL has to hold base64.")
        text = text[start.end() :]
    if len(text) * 3 // 4 > settings.max_file_bytes + FORM_OVERHEAD_BYTES:
        raise too_large(settings)
    try:
        data = binascii.a2b_base64("".join(text.split()), strict_mode=True)
    except ValueError:
        raise _refused(f"Parameter '{name}': it is neither base64 nor a data: URL.") from None
    if len(data) > settings.max_file_bytes:
        raise too_large(settings)
    return data


def _text(name: str, value: Any) -> str:
    """As a form's field would say it."""
    match value:
        case bool():
            return str(value).lower()
        case str() | float():
            return str(value)
        case int() if abs(value) < 2**64:
            return str(value)
        case [*numbers] if numbers and all(type(number) is int for number in numbers):
            return ",".join(_text(name, number) for number in numbers)
        case _:
            raise _refused(f"Parameter '{name}' has to be a text, a number, true or false.")


def _refused(detail: str) -> Refusal:
    return Refusal(ErrorCode.BAD_PARAMETER, detail)
