"""Reads a multipart form from an untrusted client. Every limit is enforced while the body arrives.

Nothing is spooled to disk: a body is bounded before it is held in memory.
"""

from dataclasses import dataclass, field
from urllib.parse import quote, unquote

from fastapi import Request
from multipart import MultipartError, MultipartSegment, PushMultipartParser, parse_options_header

from api.intake.body import file_too_large, read_chunks
from api.wording import counted
from common.failures import ErrorCode, Failure, Refusal
from settings import Settings

MAX_FIELD_BYTES = 64 * 1024
MAX_FIELDS = 32


@dataclass(frozen=True)
class Upload:
    """One file of a form."""

    filename: str
    data: bytes
    failure: Failure | None = None
    """Why the file was not taken; its bytes were thrown away."""


@dataclass
class MultipartForm:
    """The files and the text fields of a form."""

    files: list[Upload] = field(default_factory=list)
    fields: list[tuple[str, str]] = field(default_factory=list)
    """Name and text of each field, in the order in which they were sent."""


class MultipartReader:
    """Reads one multipart body: `file_field` holds the files, all other parts are text fields."""

    def __init__(self, settings: Settings, file_field: str, max_files: int) -> None:
        self.settings = settings
        self.file_field = file_field
        self.max_files = max_files

    async def read(self, request: Request) -> MultipartForm:
        """The form's files and fields.

        If the form takes one file, a file over its limit refuses the request at once. If it takes
        several, that file becomes an `Upload` with a failure, so that the others are still read.

        Raises `Refusal`: BAD_PARAMETER if the body is not such a form, TOO_LARGE over a limit.
        """
        boundary = self._boundary(request)
        form = MultipartForm()
        part = _Part("", None)
        max_bytes = self.max_files * self.settings.max_file_bytes
        try:
            with PushMultipartParser(
                boundary,
                max_segment_count=self.max_files + MAX_FIELDS,
                header_charset="latin-1",  # keeps every byte; `_name` decodes them
            ) as parser:
                async for chunk in read_chunks(request, self.settings, self.max_files, max_bytes):
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
            raise self._missing_file()
        return form

    def _boundary(self, request: Request) -> str:
        content_type, options = parse_options_header(request.headers.get("content-type", ""))
        if content_type != "multipart/form-data" or not options.get("boundary"):
            raise self._missing_file()
        return str(options["boundary"])

    def _begin(self, segment: MultipartSegment, form: MultipartForm) -> "_Part":
        name = _name(segment.name)
        if name == self.file_field:
            if len(form.files) == self.max_files:
                raise Refusal(
                    ErrorCode.BAD_PARAMETER,
                    f"Field '{self.file_field}' takes at most {counted(self.max_files, 'file')}: "
                    "send fewer.",
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
            refusal = file_too_large(self.settings)
            if self.max_files == 1:
                raise refusal
            part.failure = refusal.failure
            part.data.clear()
            return
        part.data += data

    def _end(self, part: "_Part", form: MultipartForm) -> None:
        if part.filename is not None:
            form.files.append(Upload(part.filename, bytes(part.data), part.failure))
            return
        try:
            form.fields.append((part.name, part.data.decode()))
        except UnicodeDecodeError as error:
            raise Refusal(
                ErrorCode.BAD_PARAMETER, f"Parameter '{part.name}' is not UTF-8 text."
            ) from error

    def _missing_file(self) -> Refusal:
        return Refusal(
            ErrorCode.BAD_PARAMETER,
            "The request has no file: send one as multipart/form-data in the field "
            f"'{self.file_field}'.",
        )


@dataclass
class _Part:
    """The part of the form that is arriving."""

    name: str
    filename: str | None
    """None for a text field."""
    data: bytearray = field(default_factory=bytearray)
    failure: Failure | None = None


def _name(header: str) -> str:
    """A name in a part's header, which the parser decoded as Latin-1.

    It is UTF-8 (RFC 7578, section 5.1); bytes that are not, such as those that curl sends from a
    console with a code page of its own, are replaced.
    """
    return header.encode("latin-1").decode(errors="replace")


def _filename(header: str) -> str:
    """A file's name, decoded as `_name` does.

    It is also percent-decoded (RFC 7578, section 4.2), as aiohttp needs, but only where all of it
    is percent-encoded.
    """
    name = _name(header)
    decoded = unquote(name)
    # The parser has decoded quotation marks and line breaks already.
    return decoded if quote(decoded, safe='"\r\n') == name else name
