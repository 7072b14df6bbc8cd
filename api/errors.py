"""Errors as they are answered: the status and the body of each, and the app's handlers."""

import logging
from http.client import responses as STATUS_PHRASES
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic_core import ErrorDetails
from starlette.exceptions import HTTPException

from common.failures import ErrorCode, Failure, Refusal

logger = logging.getLogger("chatvlm.api")

STATUS = {
    ErrorCode.BAD_IMAGE: 400,
    ErrorCode.BAD_PARAMETER: 400,
    ErrorCode.TOO_LARGE: 413,
    ErrorCode.UNKNOWN_MODEL: 404,
    ErrorCode.NOT_LOADED: 404,
    ErrorCode.QUEUE_FULL: 503,
    ErrorCode.UNAVAILABLE: 503,
    ErrorCode.LOADING: 503,
    ErrorCode.OUT_OF_MEMORY: 503,
    ErrorCode.DEADLINE: 504,
    ErrorCode.FAULT: 500,
}
DEFAULT_RETRY_AFTER = 300
"""Seconds. Used where an operator has to act first."""
OPENAI_PREFIX = "/v1/"
"""Paths below it answer errors in OpenAI's form."""
FAULT = Failure(code=ErrorCode.FAULT, detail="The service failed; its log says why.")
SHOWN_VALUE_LENGTH = 100
"""Characters of a wrong value that are repeated in the sentence about it."""


class BadParameter(Refusal):
    """Refusal of a parameter whose name OpenAI's error object states apart from the sentence."""

    def __init__(self, param: str | None, detail: str) -> None:
        super().__init__(ErrorCode.BAD_PARAMETER, detail)
        self.param = param


def error_body(path: str, status: int, detail: str, **fields: str | None) -> dict[str, Any]:
    """The JSON body of an error: `{"detail": …}`, or OpenAI's error object under /v1.

    fields: `param` and `code` of OpenAI's object; null where they are left out.
    """
    if not path.startswith(OPENAI_PREFIX):
        return {"detail": detail}
    kind = "invalid_request_error" if status < 500 else "server_error"
    return {"error": {"message": detail, "type": kind, "param": None, "code": None} | fields}


def failure_body(failure: Failure, path: str, param: str | None = None) -> dict[str, Any]:
    """The JSON body that answers a failed request to `path`."""
    code = "model_not_found" if failure.code is ErrorCode.UNKNOWN_MODEL else None
    return error_body(path, STATUS[failure.code], failure.detail, param=param, code=code)


def failure_response(failure: Failure, path: str, param: str | None = None) -> JSONResponse:
    """The response to a failed request to `path`."""
    status = STATUS[failure.code]
    headers = {}
    if status == 503:
        headers["Retry-After"] = str(failure.retry_after or DEFAULT_RETRY_AFTER)
    return JSONResponse(failure_body(failure, path, param), status, headers)


def validation_sentence(error: ErrorDetails) -> str:
    """One sentence of a validation error: which parameter is wrong, why, and its value."""
    name = ".".join(str(part) for part in error["loc"])
    if error["type"] == "missing":
        return f"Parameter '{name}' is required."
    value = str(error["input"])
    if len(value) > SHOWN_VALUE_LENGTH:
        value = value[:SHOWN_VALUE_LENGTH] + "…"
    problem = error["msg"].removeprefix("Value error, ").lower()
    return f"Parameter '{name}': {problem}, got '{value}'."


def status_sentence(status: int, method: str, path: str) -> str:
    """The sentence for an error of which only the status is known."""
    if status == 404:
        return f"There is no route '{path}'; see /docs."
    if status == 405:
        return f"Route '{path}' does not take {method}; see /docs."
    return f"The request was refused with status {status}."


def install(app: FastAPI) -> None:
    """Adds the handlers that answer every exception in the service's form."""

    @app.exception_handler(Refusal)
    async def refused(request: Request, error: Refusal) -> JSONResponse:
        param = error.param if isinstance(error, BadParameter) else None
        return failure_response(error.failure, request.url.path, param)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        detail = validation_sentence(error.errors()[0])
        return JSONResponse(error_body(request.url.path, 400, detail), 400)

    @app.exception_handler(HTTPException)
    async def http_error(request: Request, error: HTTPException) -> JSONResponse:
        path, status, detail = request.url.path, error.status_code, error.detail
        # Where no detail was given, as by the router itself, Starlette fills in the phrase.
        if not isinstance(detail, str) or detail == STATUS_PHRASES.get(status):
            detail = status_sentence(status, request.method, path)
        return JSONResponse(error_body(path, status, detail), status, error.headers)

    @app.exception_handler(Exception)
    async def fault(request: Request, error: Exception) -> JSONResponse:
        logger.error("%s %s failed", request.method, request.url.path, exc_info=error)
        return failure_response(FAULT, request.url.path)
