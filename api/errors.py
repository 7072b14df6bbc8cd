"""What can go wrong, and its HTTP code. Every error is `{"detail": "<one sentence>"}`."""

import logging

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic_core import ErrorDetails
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from runners.messages import Failure, Refusal, Why

logger = logging.getLogger("chatvlm.api")

STATUS = {
    Why.BAD_IMAGE: 400,
    Why.BAD_PARAMETER: 400,
    Why.TOO_LARGE: 413,
    Why.UNKNOWN_MODEL: 404,
    Why.NOT_LOADED: 404,
    Why.QUEUE_FULL: 503,
    Why.UNAVAILABLE: 503,
    Why.OUT_OF_MEMORY: 503,
    Why.DEADLINE: 504,
    Why.FAULT: 500,
}
DEFAULT_RETRY_AFTER = 5
OUR_FAULT = Failure(why=Why.FAULT, detail="The service failed; its log says why.")


def error_response(failure: Failure) -> JSONResponse:
    status = STATUS[failure.why]
    headers = {}
    if status == 503:
        headers["Retry-After"] = str(failure.retry_after or DEFAULT_RETRY_AFTER)
    return JSONResponse({"detail": failure.detail}, status, headers)


def sentence(error: ErrorDetails) -> str:
    """One sentence of a validation error: which parameter, what is wrong with which value."""
    name = ".".join(str(part) for part in error["loc"])
    given = str(error["input"])
    if len(given) > 100:
        given = given[:100] + "…"
    wrong = error["msg"].removeprefix("Value error, ").lower()
    return f"Parameter '{name}': {wrong}, got '{given}'."


def install(app: FastAPI) -> None:
    @app.exception_handler(Refusal)
    async def refused(request: Request, error: Refusal) -> JSONResponse:
        return error_response(error.failure)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        return JSONResponse({"detail": sentence(error.errors()[0])}, 400)

    @app.exception_handler(HTTPException)
    async def http_error(request: Request, error: HTTPException) -> JSONResponse:
        return JSONResponse(
            {"detail": plain_detail(error.status_code, request.method, request.url.path)},
            error.status_code,
            error.headers,
        )

    @app.exception_handler(Exception)
    async def fault(request: Request, error: Exception) -> JSONResponse:
        logger.error("%s %s failed", request.method, request.url.path, exc_info=error)
        return error_response(OUR_FAULT)


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
                    await JSONResponse({"detail": detail}, status, kept)(scope, receive, send)
                    return
            if not replaced:
                await send(message)

        await self.app(scope, receive, send_json)
