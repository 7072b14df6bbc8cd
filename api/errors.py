"""What can go wrong, and its HTTP code. Every error is `{"detail": "<one sentence>"}`, but under
/v1, where it is OpenAI's."""

import logging
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic_core import ErrorDetails
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

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
"""Seconds; where somebody has to put something right first."""
OPENAI = "/v1/"
OUR_FAULT = Failure(code=ErrorCode.FAULT, detail="The service failed; its log says why.")


class BadParameter(Refusal):
    """Raised where the parameter can be named apart from the sentence."""

    def __init__(self, param: str | None, detail: str) -> None:
        super().__init__(ErrorCode.BAD_PARAMETER, detail)
        self.param = param


def error_body(path: str, status: int, detail: str, **more: str | None) -> dict[str, Any]:
    """The contract's form; under /v1 OpenAI's error object, which has `param` and `code` more."""
    if not path.startswith(OPENAI):
        return {"detail": detail}
    kind = "invalid_request_error" if status < 500 else "server_error"
    return {"error": {"message": detail, "type": kind, "param": None, "code": None} | more}


def error_response(failure: Failure, path: str = "", param: str | None = None) -> JSONResponse:
    status = STATUS[failure.code]
    headers = {}
    if status == 503:
        headers["Retry-After"] = str(failure.retry_after or DEFAULT_RETRY_AFTER)
    code = "model_not_found" if failure.code is ErrorCode.UNKNOWN_MODEL else None
    body = error_body(path, status, failure.detail, param=param, code=code)
    return JSONResponse(body, status, headers)


def sentence(error: ErrorDetails) -> str:
    """One sentence of a validation error: which parameter, what is wrong with which value."""
    name = ".".join(str(part) for part in error["loc"])
    if error["type"] == "missing":
        return f"Parameter '{name}' is required."
    given = str(error["input"])
    if len(given) > 100:
        given = given[:100] + "…"
    wrong = error["msg"].removeprefix("Value error, ").lower()
    return f"Parameter '{name}': {wrong}, got '{given}'."


def install(app: FastAPI) -> None:
    @app.exception_handler(Refusal)
    async def refused(request: Request, error: Refusal) -> JSONResponse:
        return error_response(error.failure, request.url.path, getattr(error, "param", None))

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        detail = sentence(error.errors()[0])
        return JSONResponse(error_body(request.url.path, 400, detail), 400)

    @app.exception_handler(HTTPException)
    async def http_error(request: Request, error: HTTPException) -> JSONResponse:
        path, status = request.url.path, error.status_code
        detail = plain_detail(status, request.method, path)
        return JSONResponse(error_body(path, status, detail), status, error.headers)

    @app.exception_handler(Exception)
    async def fault(request: Request, error: Exception) -> JSONResponse:
        logger.error("%s %s failed", request.method, request.url.path, exc_info=error)
        return error_response(OUR_FAULT, request.url.path)


def plain_detail(status: int, method: str, path: str) -> str:
    if status == 404:
        return f"There is no route '{path}'; see /docs."
    if status == 405:
        return f"Route '{path}' does not take {method}; see /docs."
    return f"The request was refused with status {status}."


class JSONErrors:
    """Gives the error responses of BentoML's own routes the contract's form."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        replaced = False

        async def send_json(message: Message) -> None:
            nonlocal replaced
            if message["type"] == "http.response.start":
                headers = {name.lower(): value for name, value in message["headers"]}
                is_json = headers.get(b"content-type", b"").startswith(b"application/json")
                if message["status"] >= 400 and not is_json:
                    replaced = True
                    status = message["status"]
                    detail = plain_detail(status, scope["method"], scope["path"])
                    kept = {
                        name.decode("latin-1"): value.decode("latin-1")
                        for name, value in headers.items()
                        if name not in (b"content-type", b"content-length")
                    }
                    body = error_body(scope["path"], status, detail)
                    await JSONResponse(body, status, kept)(scope, receive, send)
                    return
            if not replaced:
                await send(message)

        await self.app(scope, receive, send_json)
