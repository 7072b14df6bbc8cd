"""A file that is sent as text: in base64, or as a data: URL (RFC 2397)."""

import asyncio
import binascii
import re

from api.intake.body import FORM_OVERHEAD_BYTES, file_too_large
from common.failures import ErrorCode, Refusal
from settings import Settings

_DATA_URL = re.compile(r"data:[^,]*?(;base64)?,", re.IGNORECASE)


def is_data_url(text: str) -> bool:
    return text[:5].lower() == "data:"


async def decode(text: str, name: str, settings: Settings) -> bytes:
    """The bytes of the file that base64 or a data: URL holds, decoded in another thread.

    name: of the parameter that holds it, for the message.
    Raises `Refusal`: BAD_PARAMETER where it is neither, TOO_LARGE over the limit of a file.
    """
    return await asyncio.to_thread(_decode, text, name, settings)


def _decode(text: str, name: str, settings: Settings) -> bytes:
    if start := _DATA_URL.match(text):
        if not start[1]:
            raise Refusal(
                ErrorCode.BAD_PARAMETER, f"Parameter '{name}': a data: URL has to hold base64."
            )
        text = text[start.end() :]
    # Before the text is copied; the allowance is for the line breaks of wrapped base64.
    if len(text) * 3 // 4 > settings.max_file_bytes + FORM_OVERHEAD_BYTES:
        raise file_too_large(settings)
    try:
        data = binascii.a2b_base64("".join(text.split()), strict_mode=True)
    except ValueError:
        raise Refusal(
            ErrorCode.BAD_PARAMETER, f"Parameter '{name}': it is neither base64 nor a data: URL."
        ) from None
    if len(data) > settings.max_file_bytes:
        raise file_too_large(settings)
    return data
