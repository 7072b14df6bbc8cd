"""The body of a request, refused as soon as it is larger than the files it may hold."""

from collections.abc import AsyncIterator

from fastapi import Request

from api.wording import counted
from common.failures import ErrorCode, Refusal
from common.units import MIB
from settings import Settings

FORM_OVERHEAD_BYTES = MIB
"""Allowance for boundaries, part headers and parameters beside the files."""


async def read_chunks(
    request: Request, settings: Settings, max_files: int, max_bytes: int
) -> AsyncIterator[bytes]:
    """The body in the chunks in which it arrives.

    max_bytes: of all `max_files` files, in the encoding in which they are sent.
    Raises `Refusal` (TOO_LARGE) once more has arrived than that and `FORM_OVERHEAD_BYTES`, or
    before the first chunk where the Content-Length header declares more.
    """

    def check(length: int) -> None:
        if length <= max_bytes + FORM_OVERHEAD_BYTES:
            return
        if max_files == 1:
            raise file_too_large(settings)
        raise Refusal(
            ErrorCode.TOO_LARGE,
            f"The request is larger than {counted(max_files, 'file')} of "
            f"{settings.max_file_mib:g} MB each: send fewer or smaller files.",
        )

    declared = request.headers.get("content-length", "")
    check(int(declared) if declared.isdecimal() else 0)
    received = 0
    async for chunk in request.stream():
        received += len(chunk)
        check(received)
        yield chunk


def file_too_large(settings: Settings) -> Refusal:
    """The refusal of a file over the limit of one file."""
    return Refusal(ErrorCode.TOO_LARGE, f"The file is larger than {settings.max_file_mib:g} MB.")
