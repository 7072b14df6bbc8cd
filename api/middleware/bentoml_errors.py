"""ASGI middleware that gives the error responses of BentoML's own routes the service's form."""

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.errors.bodies import code_of_status, error_body, status_sentence
from api.request_record import current_record

REPLACED_HEADERS = {b"content-type", b"content-length"}


class BentomlErrors:
    """Replaces every error response that is not JSON; its status and other headers stay."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        replaced = False

        async def send_json(message: Message) -> None:
            nonlocal replaced
            if message["type"] == "http.response.start" and _is_foreign_error(message):
                replaced = True
                await _response(scope, message)(scope, receive, send)
            elif not replaced:
                await send(message)

        await self.app(scope, receive, send_json)


def _is_foreign_error(start: Message) -> bool:
    headers = {name.lower(): value for name, value in start["headers"]}
    is_json = headers.get(b"content-type", b"").startswith(b"application/json")
    return start["status"] >= 400 and not is_json


def _response(scope: Scope, start: Message) -> JSONResponse:
    status, path = start["status"], scope["path"]
    sentence = status_sentence(status, scope["method"], path)
    current_record().reason = sentence
    body = error_body(path, status, code_of_status(status), sentence)
    headers = {
        name.decode("latin-1"): value.decode("latin-1")
        for name, value in start["headers"]
        if name.lower() not in REPLACED_HEADERS
    }
    return JSONResponse(body, status, headers)
