"""The status and the body of every error."""

from typing import Any

from fastapi.responses import JSONResponse

from common.failures import ErrorCode, Failure

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


def status_sentence(status: int, method: str, path: str) -> str:
    """The sentence for an error of which only the status is known."""
    if status == 404:
        return f"There is no route '{path}'; see /docs."
    if status == 405:
        return f"Route '{path}' does not take {method}; see /docs."
    return f"The request was refused with status {status}."
