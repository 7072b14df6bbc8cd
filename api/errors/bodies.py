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
    ErrorCode.UNKNOWN_ROUTE: 404,
    ErrorCode.WRONG_METHOD: 405,
    ErrorCode.UNSUPPORTED_TYPE: 415,
    ErrorCode.FAULT: 500,
}
_OF_STATUS = {
    404: ErrorCode.UNKNOWN_ROUTE,
    405: ErrorCode.WRONG_METHOD,
    413: ErrorCode.TOO_LARGE,
    415: ErrorCode.UNSUPPORTED_TYPE,
    503: ErrorCode.UNAVAILABLE,
    504: ErrorCode.DEADLINE,
}
_OPENAI_WORDS = {ErrorCode.UNKNOWN_MODEL: "model_not_found"}
"""OpenAI's own words, which its clients know, where they differ from `ErrorCode`."""
OPENAI_PREFIX = "/v1"
"""This path and those below it answer errors in OpenAI's form."""


def error_body(
    path: str, status: int, code: ErrorCode, detail: str, param: str | None = None
) -> dict[str, Any]:
    """The JSON body of an error: `{"detail": …, "code": …}`, or OpenAI's error object under /v1."""
    if not f"{path}/".startswith(f"{OPENAI_PREFIX}/"):
        return {"detail": detail, "code": code}
    kind = "invalid_request_error" if status < 500 else "server_error"
    word = _OPENAI_WORDS.get(code, code)
    return {"error": {"message": detail, "type": kind, "param": param, "code": word}}


def failure_body(failure: Failure, path: str, param: str | None = None) -> dict[str, Any]:
    """The JSON body that answers a failed request to `path`."""
    return error_body(path, STATUS[failure.code], failure.code, failure.detail, param)


def failure_response(failure: Failure, path: str, param: str | None = None) -> JSONResponse:
    """The response to a failed request to `path`."""
    status, pause = STATUS[failure.code], failure.retry_after
    headers = {"Retry-After": str(pause)} if status == 503 and pause is not None else {}
    return JSONResponse(failure_body(failure, path, param), status, headers)


def code_of_status(status: int) -> ErrorCode:
    """The code of an error of which only the status is known."""
    return _OF_STATUS.get(status, ErrorCode.BAD_PARAMETER if status < 500 else ErrorCode.FAULT)


def status_sentence(status: int, method: str, path: str) -> str:
    """The sentence for an error of which only the status is known."""
    if status == 404:
        return f"There is no route '{path}'; see /docs."
    if status == 405:
        return f"Route '{path}' does not take {method}; see /docs."
    return f"The request was refused with status {status}."
