"""A service in the client's own process: httpx calls it with each request."""

import json
from collections.abc import Callable
from typing import Any

import httpx
from chatvlm_client import AsyncChatVLMClient, ChatVLMClient

Handler = Callable[[httpx.Request], httpx.Response]
OCR = {
    "text": "Minutes",
    "model": "reader",
    "processing_time": 0.5,
    "image_size": [800, 600],
    "language": None,
}

CHAT = {"response": "In March.", "model": "reader", "processing_time": 0.5, "prompt": "When?"}


def responses(*given: httpx.Response) -> Handler:
    """A service that sends these responses, one for each request."""
    left = iter(given)
    return lambda request: next(left)


def client(handler: Handler, **more: Any) -> ChatVLMClient:
    return ChatVLMClient("http://service", transport=httpx.MockTransport(handler), **more)


def async_client(handler: Handler) -> AsyncChatVLMClient:
    return AsyncChatVLMClient("http://service", transport=httpx.MockTransport(handler))


def page(number: int, text: str | None) -> dict[str, Any]:
    """None: it could not be read."""
    if text is None:
        return {"number": number, "error": f"Page {number} is broken.", "status": "error"}
    fields = {"text": text, "processing_time": 0.5, "image_size": [800, 600]}
    return {"number": number, "status": "success", **fields}


def document(*pages: dict[str, Any]) -> httpx.Response:
    text = "\f".join(page.get("text", "") for page in pages)
    return httpx.Response(200, json={**OCR, "text": text, "pages": pages})


def refusal(detail: str, status: int, retry_after: object = None) -> httpx.Response:
    headers = {} if retry_after is None else {"Retry-After": str(retry_after)}
    return httpx.Response(status, json={"detail": detail}, headers=headers)


def event(name: str, **data: Any) -> str:
    return f"event: {name}\ndata: {json.dumps(data, ensure_ascii=False)}\n\n"


def fields(request: httpx.Request) -> dict[str, str]:
    """The parts of a multipart form, a file's being its name."""
    boundary = request.headers["content-type"].partition("boundary=")[2]
    found = {}
    for part in request.read().decode().split(f"--{boundary}")[1:-1]:
        head, _, body = part.strip("\r\n").partition("\r\n\r\n")
        _, name, *more = head.split('"')
        found[name] = more[1] if "filename=" in head else body
    return found
