"""Reads the files of a request: a multipart form, or a body that is the file itself."""

from fastapi import Request

from api.intake.body import content_type, file_too_large, read_chunks
from api.intake.files.multipart_forms import MultipartReader, Upload, UploadForm, missing_file
from common.failures import ErrorCode, Refusal
from settings import Settings

MULTIPART = "multipart/form-data"
_URL_ENCODED = "application/x-www-form-urlencoded"
"""What curl and others send for a form without a file."""
_RAW_TYPES = {"", "application/octet-stream", "application/pdf", "application/x-pdf"}


async def read_files(
    request: Request, settings: Settings, file_field: str, max_files: int
) -> UploadForm:
    """The files and text fields of the request.

    Raises `Refusal`: UNSUPPORTED_TYPE for a content type that is neither a form's nor a file's,
    BAD_PARAMETER where there is no file, and as `MultipartReader.read` does.
    """
    kind, _ = content_type(request)
    if kind == MULTIPART:
        return await MultipartReader(settings, file_field, max_files).read(request)
    if kind == _URL_ENCODED:
        raise missing_file(file_field)
    if kind not in _RAW_TYPES and not kind.startswith("image/"):
        raise Refusal(
            ErrorCode.UNSUPPORTED_TYPE,
            f"Files are not taken as '{kind[:100]}': send them as {MULTIPART} in the field "
            f"'{file_field}', or one as the whole body with its own type, such as image/png.",
        )
    return UploadForm(files=[await _raw_file(request, settings, file_field)])


async def _raw_file(request: Request, settings: Settings, file_field: str) -> Upload:
    """The body as one file. What it is is seen from its bytes."""
    data = bytearray()
    async for chunk in read_chunks(request, settings, 1, settings.max_file_bytes):
        data += chunk
        if len(data) > settings.max_file_bytes:
            raise file_too_large(settings)
    if not data:
        raise missing_file(file_field)
    return Upload(file_field, bytes(data))
