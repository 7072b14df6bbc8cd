"""A file that is sent as text: in base64, or as a data: URL (RFC 2397)."""

import asyncio
import binascii
import re

from api.intake.body import file_too_large
from common.failures import ErrorCode, Refusal
from common.units import MIB
from settings import Settings

LINE_BREAK_ALLOWANCE = MIB
"""Bytes over the limit of a file that the line breaks of wrapped base64 may take."""
_DATA_URL = re.compile(r"data:[^,]*?(;base64)?,", re.IGNORECASE)


def is_data_url(text: str) -> bool:
    return text[:5].lower() == "data:"


async def decode(text: str, name: str, settings: Settings) -> bytes:
    """The bytes of the file that base64 or a data: URL holds, decoded in another thread.

    name: of the parameter that holds it, for the message.
    Raises `Refusal`: BAD_PARAMETER if it is neither, TOO_LARGE over the limit of a file.
    """
    return await asyncio.to_thread(_decode, text, name, settings)


def _decode(text: str, name: str, settings: Settings) -> bytes:
    if start := _DATA_URL.match(text):
        if not start[1]:
            raise Refusal(
                ErrorCode.BAD_PARAMETER, f"Parameter '{name}': a data: URL has to hold base64."
            )
        text = text[start.end() :]
    # Checked before the text is copied without its white space, and after it was decoded.
    if len(text) * 3 // 4 > settings.max_file_bytes + LINE_BREAK_ALLOWANCE:
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
