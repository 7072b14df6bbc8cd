"""FastAPI dependencies that hand a route its checked form: the files and the parameters.

A route declares one of the types below as a parameter. Each dependency declares the request's
deadline, even where it does not use it: that counts the request and starts its time limit before
the body is read.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated, Generic

from fastapi import Depends, Request

from api.dependencies.admission import RequestDeadline
from api.gateway import CurrentGateway
from api.intake import base64_files
from api.intake.completions import read_completion_request
from api.intake.files.multipart_forms import Upload
from api.intake.files.reading import read_files
from api.intake.json_bodies import is_json, read_json_form
from api.intake.parameters import (
    ChatParameters,
    ExtractParameters,
    OcrParameters,
    Parameters,
    PreviewParameters,
    parse,
)
from api.intake.unknown_parameters import unknown_parameters
from api.schemas.openai import CompletionRequest


@dataclass(frozen=True)
class FileForm(Generic[Parameters]):
    """One file within its size limit, not yet decoded, and what is asked of it."""

    data: bytes
    parameters: Parameters
    warning: str | None
    """Names the parameters that the route does not have."""


@dataclass(frozen=True)
class FilesForm(Generic[Parameters]):
    """One or more files, those over the size limit marked as failed, and what is asked of each."""

    files: list[Upload]
    parameters: Parameters
    warning: str | None
    """Names the parameters that the route does not have."""


def _one_file(kind: type[Parameters]) -> Callable[..., Awaitable[FileForm[Parameters]]]:
    """A dependency that reads a multipart form, a body that is the file, or JSON. It raises
    `Refusal`: BAD_PARAMETER, TOO_LARGE, UNSUPPORTED_TYPE, or BAD_IMAGE if a URL cannot be fetched.
    """

    async def read(
        request: Request, gateway: CurrentGateway, deadline: RequestDeadline
    ) -> FileForm[Parameters]:
        settings = gateway.settings
        if not is_json(request):
            form = await read_files(request, settings, "file", max_files=1)
            return FileForm(form.files[0].data, *_parsed(kind, request, form.fields))
        json_form = await read_json_form(request, settings)
        parameters, warning = _parsed(kind, request, json_form.fields)
        if json_form.is_url:
            data = await gateway.fetcher.fetch(json_form.file)
        else:
            data = await base64_files.decode(json_form.file, "image", settings)
        return FileForm(data, parameters, warning)

    return read


def _several_files(kind: type[Parameters]) -> Callable[..., Awaitable[FilesForm[Parameters]]]:
    """A dependency that reads a multipart form, or a body that is one file. It raises `Refusal`:
    BAD_PARAMETER, TOO_LARGE or UNSUPPORTED_TYPE."""

    async def read(
        request: Request, gateway: CurrentGateway, deadline: RequestDeadline
    ) -> FilesForm[Parameters]:
        settings = gateway.settings
        form = await read_files(request, settings, "files", settings.max_files)
        return FilesForm(form.files, *_parsed(kind, request, form.fields))

    return read


def _parsed(
    kind: type[Parameters], request: Request, fields: list[tuple[str, str]]
) -> tuple[Parameters, str | None]:
    """The parameters of the query and the form, and a warning about those that `kind` lacks."""
    names = [*request.query_params, *(name for name, _ in fields)]
    return parse(kind, request.query_params, fields), unknown_parameters(kind, names)


async def _completion(
    request: Request, gateway: CurrentGateway, deadline: RequestDeadline
) -> CompletionRequest:
    """Reads the JSON of a chat completion. Raises `Refusal`: BAD_PARAMETER or TOO_LARGE."""
    return await read_completion_request(request, gateway.settings)


OcrForm = Annotated[FileForm[OcrParameters], Depends(_one_file(OcrParameters))]
BatchForm = Annotated[FilesForm[OcrParameters], Depends(_several_files(OcrParameters))]
ChatForm = Annotated[FileForm[ChatParameters], Depends(_one_file(ChatParameters))]
ExtractForm = Annotated[FileForm[ExtractParameters], Depends(_one_file(ExtractParameters))]
PreviewForm = Annotated[FileForm[PreviewParameters], Depends(_one_file(PreviewParameters))]
CompletionForm = Annotated[CompletionRequest, Depends(_completion)]
