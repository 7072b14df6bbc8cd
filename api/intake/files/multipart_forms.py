"""Reads a multipart form from an untrusted client. Every limit is enforced while the body arrives.

Nothing is spooled to disk: a body is bounded before it is held in memory.
"""

from dataclasses import dataclass, field

from fastapi import Request
from multipart import MultipartError, MultipartSegment, PushMultipartParser

from api.intake.body import content_type, file_too_large, read_chunks
from api.intake.files.names import field_name, upload_name
from api.wording import counted
from common.failures import ErrorCode, Failure, Refusal
from settings import Settings

MAX_FIELD_BYTES = 64 * 1024
MAX_FIELDS = 32
FILE_FIELDS = {"file", "files", "file[]", "files[]"}
"""Names that clients give to the field of one file, or of several: each means the same."""


@dataclass(frozen=True)
class Upload:
    """One file of a form."""

    filename: str
    data: bytes
    failure: Failure | None = None
    """Why the file was not taken; its bytes were thrown away."""


@dataclass
class UploadForm:
    """The files and the text fields of a form."""

    files: list[Upload] = field(default_factory=list)
    fields: list[tuple[str, str]] = field(default_factory=list)
    """Name and text of each field, in the order in which they were sent."""


class MultipartReader:
    """Reads one multipart body: fields of `FILE_FIELDS` hold files, all other parts are text."""

    def __init__(self, settings: Settings, file_field: str, max_files: int) -> None:
        """file_field: the name that the route's documents give to the field of its files."""
        self.settings = settings
        self.file_field = file_field
        self.max_files = max_files

    async def read(self, request: Request) -> UploadForm:
        """The form's files and fields.

        If the form takes one file, a file over its limit refuses the request at once. If it takes
        several, that file becomes an `Upload` with a failure, so that the others are still read.

        Raises `Refusal`: BAD_PARAMETER if the body is not such a form, TOO_LARGE over a limit.
        """
        boundary = self._boundary(request)
        form = UploadForm()
        part = _Part("", None)
        max_bytes = self.max_files * self.settings.max_file_bytes
        try:
            with PushMultipartParser(
                boundary,
                max_segment_count=self.max_files + MAX_FIELDS,
                header_charset="latin-1",  # keeps every byte; `filenames` decodes them
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
            raise missing_file(self.file_field)
        return form

    def _boundary(self, request: Request) -> str:
        _, options = content_type(request)
        if not options.get("boundary"):
            raise missing_file(self.file_field)
        return options["boundary"]

    def _begin(self, segment: MultipartSegment, form: UploadForm) -> "_Part":
        name = field_name(segment.name or "")
        if name in FILE_FIELDS:
            if len(form.files) == self.max_files:
                raise Refusal(
                    ErrorCode.BAD_PARAMETER,
                    f"Field '{self.file_field}' takes at most {counted(self.max_files, 'file')}: "
                    "send fewer.",
                )
            return _Part(name, upload_name(segment) or self.file_field)
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

    def _end(self, part: "_Part", form: UploadForm) -> None:
        if part.filename is not None:
            form.files.append(Upload(part.filename, bytes(part.data), part.failure))
            return
        try:
            form.fields.append((part.name, part.data.decode()))
        except UnicodeDecodeError as error:
            raise Refusal(
                ErrorCode.BAD_PARAMETER, f"Parameter '{part.name}' is not UTF-8 text."
            ) from error


def missing_file(file_field: str) -> Refusal:
    """The refusal of a request that has no file."""
    return Refusal(
        ErrorCode.BAD_PARAMETER,
        f"The request has no file: send one as multipart/form-data in the field '{file_field}'.",
    )


@dataclass
class _Part:
    """The part of the form that is arriving."""

    name: str
    filename: str | None
    """None for a text field."""
    data: bytearray = field(default_factory=bytearray)
    failure: Failure | None = None
