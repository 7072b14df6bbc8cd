"""The body of a request, refused as soon as it is larger than the files it may hold."""

import zlib
from collections.abc import AsyncIterator

from fastapi import Request
from multipart import parse_options_header

from api.wording import counted
from common.failures import ErrorCode, Refusal
from common.units import MIB
from settings import Settings

FORM_OVERHEAD_BYTES = MIB
"""Allowance for boundaries, part headers and parameters beside the files."""
_ENCODINGS = {"gzip": 31, "x-gzip": 31, "deflate": 15}
"""Content encodings (RFC 9110, section 8.4.1) that are decoded, and zlib's `wbits` for each."""
_PIECE_BYTES = 256 * 1024
"""An encoded body is unpacked in pieces of at most so many bytes."""


def content_type(request: Request) -> tuple[str, dict[str, str]]:
    """The request's content type in lower case, and its options; "" where it has none."""
    kind, options = parse_options_header(request.headers.get("content-type", ""))
    return str(kind), options


async def read_chunks(
    request: Request, settings: Settings, max_files: int, max_bytes: int
) -> AsyncIterator[bytes]:
    """The body in the chunks in which it arrives, its content encoding decoded.

    max_bytes: of all `max_files` files, in the encoding in which they are sent.
    Raises `Refusal`: TOO_LARGE once more has arrived or been unpacked than that and
    `FORM_OVERHEAD_BYTES`, or before the first chunk where the Content-Length header declares more;
    UNSUPPORTED_TYPE for a content encoding that is not decoded; BAD_PARAMETER for a body that is
    not in the encoding that its header names.
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
    async for chunk in _decoded(request):
        received += len(chunk)
        check(received)
        yield chunk


def file_too_large(settings: Settings) -> Refusal:
    """The refusal of a file over the limit of one file."""
    return Refusal(ErrorCode.TOO_LARGE, f"The file is larger than {settings.max_file_mib:g} MB.")


async def _decoded(request: Request) -> AsyncIterator[bytes]:
    encoding = request.headers.get("content-encoding", "").strip().lower()
    if encoding in ("", "identity"):
        async for chunk in request.stream():
            yield chunk
        return
    if encoding not in _ENCODINGS:
        raise Refusal(
            ErrorCode.UNSUPPORTED_TYPE,
            f"The body is encoded as '{encoding}': send it as it is, or as gzip or deflate.",
        )
    unpacker = zlib.decompressobj(_ENCODINGS[encoding])
    try:
        async for packed in request.stream():
            while packed:
                yield unpacker.decompress(packed, _PIECE_BYTES)
                packed = unpacker.unconsumed_tail
        yield unpacker.flush()
    except zlib.error:
        raise _not_encoded(encoding) from None
    if not unpacker.eof or unpacker.unused_data:
        raise _not_encoded(encoding)


def _not_encoded(encoding: str) -> Refusal:
    return Refusal(
        ErrorCode.BAD_PARAMETER, f"The body is not complete {encoding}, as its header says."
    )
