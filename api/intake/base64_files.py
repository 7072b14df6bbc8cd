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
_ADDRESS = re.compile(r"\s*[a-z][a-z0-9+.-]{0,20}://", re.IGNORECASE)
_URL_SAFE = str.maketrans("-_", "+/")
_DATA_URL = re.compile(r"data:[^,]*?(;base64)?,", re.IGNORECASE)


def is_address(text: str) -> bool:
    """Whether it is the address of a file, and not the file itself."""
    return _ADDRESS.match(text) is not None


async def decode(text: str, name: str, settings: Settings) -> bytes:
    """The bytes of the file that base64 or a data: URL holds, decoded in another thread.

    The base64 may be that of URLs, and without padding (RFC 4648, sections 5 and 3.2).

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
    text = "".join(text.split()).strip("\"'").rstrip("=").translate(_URL_SAFE)
    try:
        data = binascii.a2b_base64(text + "=" * (-len(text) % 4), strict_mode=True)
    except ValueError:
        raise Refusal(
            ErrorCode.BAD_PARAMETER, f"Parameter '{name}': it is neither base64 nor a data: URL."
        ) from None
    if len(data) > settings.max_file_bytes:
        raise file_too_large(settings)
    return data
