"""A small server of OpenAI's protocol, without a model."""

import asyncio
import base64
import io
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web
from PIL import Image

NAME = "Qwen/Qwen3-VL-8B-Instruct"


class FakeUpstream:
    """Streams the texts that it is told to, and keeps what it was asked."""

    def __init__(self) -> None:
        self.url = ""
        self.models: list[dict[str, Any]] = [{"id": NAME, "max_model_len": 32_768}]
        self.texts: Sequence[str] = ("Two ", "words")
        self.reason: str | None = "stop"
        """None: the stream ends without one."""
        self.lines: Sequence[str] = ()
        """What is sent instead of the texts."""
        self.refusals: list[web.Response] = []
        """The next responses, before it answers again."""
        self.tells_usage = True
        self.details: dict[str, Any] | None = None
        self.breaks_off = False
        """Whether the connection is cut before the end of the answer."""
        self.may_end = asyncio.Event()
        """The last text waits for it."""
        self.may_end.set()
        self.may_list = asyncio.Event()
        """The list of models waits for it."""
        self.may_list.set()
        self.waits = asyncio.Event()
        """Set while the last text waits."""
        self.stopped = asyncio.Event()
        """Set once a client has hung up."""
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.listed = 0
        """How often its models were asked for."""

    @asynccontextmanager
    async def serve(self, port: int = 0) -> AsyncIterator["FakeUpstream"]:
        app = web.Application(client_max_size=2**30)
        app.router.add_get("/v1/models", self._list)
        app.router.add_post("/v1/chat/completions", self._chat)
        server = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0)
        await server.setup()
        await web.TCPSite(server, "127.0.0.1", port).start()
        self.url = "http://{}:{}/v1".format(*server.addresses[0])
        try:
            yield self
        finally:
            await server.cleanup()

    @property
    def body(self) -> dict[str, Any]:
        """What it was asked last."""
        return self.bodies[-1]

    @property
    def images(self) -> list[Image.Image]:
        """The images that it was asked about last."""
        contents = [message["content"] for message in self.body["messages"]]
        parts = [part for content in contents if isinstance(content, list) for part in content]
        urls = [part["image_url"]["url"] for part in parts if part["type"] == "image_url"]
        return [Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))) for url in urls]

    async def _list(self, request: web.Request) -> web.Response:
        self.listed += 1
        self.headers.append(dict(request.headers))
        await self.may_list.wait()
        if self.refusals:
            return self.refusals.pop(0)
        return web.json_response({"object": "list", "data": self.models})

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        self.bodies.append(await request.json())
        self.headers.append(dict(request.headers))
        if self.refusals:
            return self.refusals.pop(0)
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream; charset=utf-8"})
        await response.prepare(request)
        for line in self.lines or self._lines():
            if line == "wait":
                await self._wait()
            else:
                await response.write(f"{line}\n\n".encode())
        if self.breaks_off:
            assert request.transport is not None
            request.transport.abort()
        return response

    def _lines(self) -> list[str]:
        chunks = [self._chunk(text, number) for number, text in enumerate(self.texts, 1)]
        lines = [self._chunk("", 0), *chunks[:-1], "wait", *chunks[-1:]]
        if self.breaks_off or self.reason is None:
            return lines
        count = len(self.texts)
        return [*lines, self._chunk("", count, self.reason), self._last(count), "data: [DONE]"]

    def _chunk(self, text: str, count: int, reason: str | None = None) -> str:
        choice = {"index": 0, "delta": {"content": text}, "finish_reason": reason}
        return self._event({"choices": [choice]}, count)

    def _last(self, count: int) -> str:
        return self._event({"choices": []}, count)

    def _event(self, event: dict[str, Any], count: int) -> str:
        usage = {"prompt_tokens": 70, "completion_tokens": count}
        details = {"prompt_tokens_details": self.details} if self.details else {}
        told = {"usage": usage | details} if self.tells_usage else {}
        return f"data: {json.dumps(event | told)}"

    async def _wait(self) -> None:
        self.waits.set()
        try:
            await self.may_end.wait()
        except asyncio.CancelledError:
            self.stopped.set()
            raise


def refusal(status: int, message: str = "no", **headers: str) -> web.Response:
    """An error as servers of the protocol answer it."""
    error = {"error": {"message": message, "code": status}}
    return web.json_response(error, status=status, headers=headers)
