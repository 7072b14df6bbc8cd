"""A runner without a model, and pictures to send it."""

import asyncio
import io
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote

from aiohttp import web
from PIL import Image

from runners.images import decode
from runners.messages import Answer, Failure, Piece, Reply, Request, Status

T = TypeVar("T")
Outcome = Answer | Failure | Exception


def picture(width: int = 4, height: int = 3, format: str = "PNG") -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (width, height), "white").save(file, format)
    return file.getvalue()


class FakeRunner:
    """Stands where `bentoml.depends` puts a runner's client. Its text is the image's size."""

    def __init__(self) -> None:
        self.to_async = self
        self.url = ""
        self.requests: list[Request] = []
        self.waiting = asyncio.Event()
        self.stopped = asyncio.Event()
        """A request was cancelled while it was worked on."""
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self.outcome: Outcome | None = None
        """Instead of the answer."""
        self.standing: Status | Exception = Status(state="loaded")

    async def answer(self, request: Request) -> Reply:
        self.requests.append(request)
        await self._wait()
        return Reply(outcome=_or_raise(self.outcome or self._read(request)))

    async def has_got(self, count: int) -> None:
        """Returns when so many requests have come."""
        while len(self.requests) < count:
            self.waiting.clear()
            await asyncio.wait_for(self.waiting.wait(), 10)

    async def load(self) -> Reply:
        self.standing = Status(state="loaded")
        return Reply(outcome=self.standing)

    async def unload(self) -> bool:
        was_loaded = _or_raise(self.standing).state == "loaded"
        self.standing = Status(state="unloaded")
        return was_loaded

    async def status(self) -> Status:
        return _or_raise(self.standing)

    @asynccontextmanager
    async def streaming(
        self, folder: Path, *outcomes: Piece | Answer | Failure | None
    ) -> AsyncIterator[None]:
        """Serves `/stream` on a socket as a runner does, which dies at None.

        The last outcome waits for leave.
        """

        async def stream(request: web.Request) -> web.StreamResponse:
            body = await request.json()
            self.requests.append(Request.model_validate(body["request"]))
            response = web.StreamResponse()
            await response.prepare(request)
            for outcome in outcomes:
                if outcome is outcomes[-1]:
                    await self._wait()
                if outcome is None:
                    request.transport.abort()
                    break
                await response.write(Reply(outcome=outcome).model_dump_json().encode() + b"\n")
            return response

        app = web.Application()
        app.router.add_post("/stream", stream)
        server = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0)
        await server.setup()
        socket = folder / "runner.sock"
        await web.UnixSite(server, str(socket)).start()
        self.url = f"file://{quote(str(socket))}"
        try:
            yield
        finally:
            await server.cleanup()

    async def _wait(self) -> None:
        self.waiting.set()
        try:
            await self.may_answer.wait()
        except asyncio.CancelledError:
            self.stopped.set()
            raise

    def _read(self, request: Request) -> Answer:
        sizes = [decode(image).size for image in request.images]
        text = " ".join(f"{width}x{height}" for width, height in sizes)
        return Answer(text=text, image_size=sizes[0])


def _or_raise(outcome: T | Exception) -> T:
    if isinstance(outcome, Exception):
        raise outcome
    return outcome
