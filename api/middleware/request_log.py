"""ASGI middleware that gives each request an id and writes one line about it to the log."""

import logging
import time
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.request_record import RequestRecord, current
from common.logs import request_ids
from common.logs.setup import REQUESTS

_logger = logging.getLogger(REQUESTS)
_PROBES = {"/livez", "/readyz", "/healthz", "/metrics"}
"""Asked for every few seconds by machines: they are not logged."""
_SHOWN_PATH_LENGTH = 200


class RequestLog:
    """Sets the request's id and record, and logs the request when it has been answered.

    The id is the one of the header X-Request-ID, or a new one; the response has it too.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request_id = request_ids.accept(Headers(scope=scope).get(request_ids.HEADER))
        id_token = request_ids.current.set(request_id)
        record = RequestRecord()
        record_token = current.set(record)
        status = 0

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)[request_ids.HEADER] = request_id
            await send(message)

        began = time.perf_counter()
        try:
            await self.app(scope, receive, send_with_id)
        finally:
            if scope["path"] not in _PROBES:
                _write(scope, record, status, time.perf_counter() - began)
            current.reset(record_token)
            request_ids.current.reset(id_token)


def _write(scope: Scope, record: RequestRecord, status: int, seconds: float) -> None:
    path = scope["path"][:_SHOWN_PATH_LENGTH]
    fields: dict[str, Any] = {
        "method": scope["method"],
        "route": record.route or path,
        "status": status,
        "seconds": round(seconds, 3),
    }
    further = {
        "client": scope["client"][0] if scope.get("client") else "",
        "model": record.model,
        "pages": record.pages,
        "tokens": record.tokens,
        "reason": record.reason,
    }
    fields |= {name: value for name, value in further.items() if value}
    _logger.info("request", extra=fields)
