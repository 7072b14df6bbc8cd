"""Bytes of a stranger to checked files, with every limit enforced while the body arrives.

Nothing is spooled to disk: a body is bounded before it is held in memory.
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from urllib.parse import quote, unquote

from fastapi import Request
from multipart import MultipartError, MultipartSegment, PushMultipartParser, parse_options_header

from common.failures import ErrorCode, Failure, Refusal
from settings import MIB, Settings

MAX_FIELD_BYTES = 64 * 1024
MAX_FIELDS = 32
FORM_OVERHEAD_BYTES = MIB
"""Allowance for boundaries, part headers and fields beside the files."""


@dataclass(frozen=True)
class Upload:
    filename: str
    data: bytes
    failure: Failure | None = None
    """Why the file was not taken; its bytes were thrown away."""


@dataclass
class Form:
    files: list[Upload] = field(default_factory=list)
    fields: list[tuple[str, str]] = field(default_factory=list)


async def arriving(
    request: Request, settings: Settings, max_files: int, max_bytes: int
) -> AsyncIterator[bytes]:
    """The body in chunks. max_bytes: of the `max_files` files as they are sent.

    Raises `Refusal`: TOO_LARGE as soon as there is more, or said to be, and some to spare.
    """

    def check(length: int) -> None:
        if length > max_bytes + FORM_OVERHEAD_BYTES:
            raise Refusal(
                ErrorCode.TOO_LARGE,
                f"The request is too large: at most {max_files} file(s) of "
                f"{settings.max_file_mib:g} MB.",
            )

    declared = request.headers.get("content-length", "")
    check(int(declared) if declared.isdecimal() else 0)
    received = 0
    async for chunk in request.stream():
        received += len(chunk)
        check(received)
        yield chunk


def too_large(settings: Settings) -> Refusal:
    return Refusal(ErrorCode.TOO_LARGE, f"The file is larger than {settings.max_file_mib:g} MB.")


class UploadReader:
    """Reads one multipart body: `file_field` holds the files, all other parts are text fields."""

    def __init__(self, settings: Settings, file_field: str, max_files: int) -> None:
        self.settings = settings
        self.file_field = file_field
        self.max_files = max_files

    async def read(self, request: Request) -> Form:
        """Raises `Refusal`: BAD_PARAMETER for what is no such form, TOO_LARGE past a limit.

        A file over its limit refuses a request for one file at once; among several it becomes
        an `Upload` with a failure, so that the others are still read.
        """
        boundary = self._boundary(request)
        form = Form()
        part = _Part("", None)
        most = self.max_files * self.settings.max_file_bytes
        try:
            with PushMultipartParser(
                boundary,
                max_segment_count=self.max_files + MAX_FIELDS,
                header_charset="latin-1",  # any bytes; `_name` decodes them
            ) as parser:
                async for chunk in arriving(request, self.settings, self.max_files, most):
                    if not chunk or parser.closed:
                        continue
                    for event in parser.parse(chunk):
                        if isinstance(event, MultipartSegment):
                            part = self._begin(event, form)
                        elif event is None:
                            self._end(part, form)
                        else:
                            self._grow(part, event)
        except MultipartError as error:
            raise Refusal(
                ErrorCode.BAD_PARAMETER,
                "The form is broken or incomplete: it is not valid multipart/form-data.",
            ) from error
        if not form.files:
            raise self._no_file()
        return form

    def _boundary(self, request: Request) -> str:
        content_type, options = parse_options_header(request.headers.get("content-type", ""))
        if content_type != "multipart/form-data" or not options.get("boundary"):
            raise self._no_file()
        return options["boundary"]

    def _begin(self, segment: MultipartSegment, form: Form) -> "_Part":
        name = _name(segment.name)
        if name == self.file_field:
            if len(form.files) == self.max_files:
                raise Refusal(
                    ErrorCode.BAD_PARAMETER,
                    f"At most {self.max_files} file(s) a request are taken in '{self.file_field}'.",
                )
            return _Part(name, _filename(segment.filename or "") or self.file_field)
        if segment.filename is not None:
            raise Refusal(
                ErrorCode.BAD_PARAMETER,
                f"Unexpected file in field '{name}': send it as '{self.file_field}'.",
            )
        return _Part(name, None)

    def _grow(self, part: "_Part", data: bytes) -> None:
        if part.failure is not None:
            return
        if part.filename is None:
            if len(part.data) + len(data) > MAX_FIELD_BYTES:
                raise Refusal(
                    ErrorCode.BAD_PARAMETER,
                    f"Parameter '{part.name}' is longer than {MAX_FIELD_BYTES} bytes.",
                )
        elif len(part.data) + len(data) > self.settings.max_file_bytes:
            refusal = too_large(self.settings)
            if self.max_files == 1:
                raise refusal
            part.failure = refusal.failure
            part.data.clear()
            return
        part.data += data

    def _end(self, part: "_Part", form: Form) -> None:
        if part.filename is not None:
            form.files.append(Upload(part.filename, bytes(part.data), part.failure))
            return
        try:
            form.fields.append((part.name, part.data.decode()))
        except UnicodeDecodeError as error:
            raise Refusal(
                ErrorCode.BAD_PARAMETER, f"Parameter '{part.name}' is not UTF-8 text."
            ) from error

    def _no_file(self) -> Refusal:
        return Refusal(
            ErrorCode.BAD_PARAMETER,
            f"No file: send it as multipart/form-data in the field '{self.file_field}'.",
        )


@dataclass
class _Part:
    name: str
    filename: str | None
    data: bytearray = field(default_factory=bytearray)
    failure: Failure | None = None


def _name(header: str) -> str:
    """A name in a part's header: UTF-8 (RFC 7578, section 5.1), but an old console's curl sends
    its own code page."""
    return header.encode("latin-1").decode(errors="replace")


def _filename(header: str) -> str:
    """As `_name`, and out of percent-encoding (RFC 7578, section 4.2) where all of it is so
    encoded, as aiohttp does."""
    name = _name(header)
    decoded = unquote(name)
    # The parser has decoded quotation marks and line breaks already.
    return decoded if quote(decoded, safe='"\r\n') == name else name
