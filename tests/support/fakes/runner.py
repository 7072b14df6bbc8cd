"""A runner without a model, behind a real socket, and pictures to send it."""

import asyncio
import base64
import io
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiohttp
from aiohttp import web
from bentoml.exceptions import InternalServerError
from PIL import Image

from api.dispatch.runner_calls import RunnerCalls
from api.dispatch.runner_errors import RunnerLost
from common.deadline import Deadline
from common.failures import Failure, Refusal
from common.images import decode
from common.logs import request_ids
from common.messages import Answer, Piece, Reply, Request, Status

GONE = "No runner of model 'got_ocr' answers at the moment; try again."
"""What is said of a runner of GOT-OCR that is not reachable."""


class Dies:
    """Instead of an answer: the runner's connection breaks."""


class Fails:
    """Instead of an answer: an exception in the runner."""


Outcome = Answer | Piece | Failure | Dies | Fails


def picture(width: int = 4, height: int = 3, format: str = "PNG") -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (width, height), "white").save(file, format)
    return file.getvalue()


def base64_of(data: bytes) -> str:
    return base64.b64encode(data).decode()


def data_url(data: bytes, kind: str = "image/png") -> str:
    return f"data:{kind};base64,{base64_of(data)}"


class FakeRunner:
    """Answers the calls of a runner. Its text is the images' sizes."""

    def __init__(self, model: str) -> None:
        self.model = model
        self.url = ""
        self.requests: list[Request] = []
        self.time_limits: list[float] = []
        self.request_ids: list[str] = []
        self.waiting = asyncio.Event()
        self.stopped = asyncio.Event()
        """Set once a request was cancelled while it was worked on."""
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self.outcome: Outcome | None = None
        """What is replied instead of the answer."""
        self.stream: list[Outcome] = []
        """What is streamed instead of the answer alone; the last one waits for `may_answer`."""
        self.status = Status(state="loaded")
        self.may_report_status = asyncio.Event()
        self.may_report_status.set()
        self.may_load = asyncio.Event()
        self.may_load.set()
        self.asked: list[str] = []
        """The calls that came, except `status`."""

    @asynccontextmanager
    async def serve(self, at: Path | tuple[str, int] | socket.socket) -> AsyncIterator[None]:
        """at: the path of a Unix socket, an address and a port (0: any), or a listening socket."""
        app = web.Application(client_max_size=2**30)
        app.router.add_post("/{call}", self._called)
        server = self._server = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0)
        await server.setup()
        site: web.BaseSite
        if isinstance(at, Path):
            self.url = f"file://{quote(str(at))}"
            site = web.UnixSite(server, str(at))
        elif isinstance(at, tuple):
            site = web.TCPSite(server, *at)
        else:
            site = web.SockSite(server, at)
        await site.start()
        if isinstance(at, tuple):
            self.url = "http://{}:{}".format(*server.addresses[0])
        self.accept_no_more = site.stop
        try:
            yield
        finally:
            await self.stop()

    async def stop(self) -> None:
        await self._server.cleanup()

    async def has_got(self, count: int) -> None:
        """Returns when so many requests have come."""
        while len(self.requests) < count:
            self.waiting.clear()
            await asyncio.wait_for(self.waiting.wait(), 10)

    async def _called(self, request: web.Request) -> web.StreamResponse:
        call = request.match_info["call"]
        response = web.StreamResponse(headers={"Server": f"BentoML Service/{self.model}"})
        if call == "status":
            await self.may_report_status.wait()
            said: Any = self.status.model_dump_json()
        else:
            self.asked.append(call)
        if call == "load":
            await self.may_load.wait()
            if self.status.state != "loaded":
                self.status = Status(state="loaded")
            said = Reply(outcome=self.status).model_dump_json()
        elif call == "unload":
            said = "true" if self.status.state == "loaded" else "false"
            self.status = Status(state="unloaded")
        elif call in ("answer", "stream"):
            body = await request.json()
            asked = Request.model_validate(body["request"])
            self.requests.append(asked)
            self.time_limits.append(body["time_limit"])
            self.request_ids.append(body["request_id"])
            outcomes = self.stream if call == "stream" else []
            return await self._answered(outcomes or [await self.answer(asked)], request, response)
        await response.prepare(request)
        await response.write(said.encode())
        return response

    async def _answered(
        self, outcomes: list[Outcome], request: web.Request, response: web.StreamResponse
    ) -> web.StreamResponse:
        for outcome in outcomes:
            if outcome is outcomes[-1]:
                await self._wait()
            if isinstance(outcome, Fails):
                raise web.HTTPInternalServerError(text="Traceback: /home/x")
            if isinstance(outcome, Dies):
                assert request.transport is not None
                request.transport.abort()
                break
            if not response.prepared:
                await response.prepare(request)
            await response.write(Reply(outcome=outcome).model_dump_json().encode() + b"\n")
        return response

    async def _wait(self) -> None:
        self.waiting.set()
        try:
            await self.may_answer.wait()
        except asyncio.CancelledError:
            self.stopped.set()
            raise

    async def answer(self, request: Request) -> Outcome:
        return self.outcome or self._read(request)

    def _read(self, request: Request) -> Answer | Failure:
        try:
            sizes = [decode(image).size for image in request.images]
        except Refusal as refusal:
            return refusal.failure
        text = " ".join(f"{width}x{height}" for width, height in sizes)
        return Answer(text=text, image_size=sizes[0])


class FakeDependency:
    """Stands in for the client of a runner that `bentoml.depends` makes."""

    def __init__(self, runner: FakeRunner) -> None:
        self.to_async = self
        self.url = runner.url
        self._runner = RunnerCalls(runner.model, runner.url)
        self.error: Exception | None = None
        """Raised instead of an answer."""

    async def answer(self, request: Request, time_limit: float, request_id: str) -> Reply:
        assert request_id == request_ids.current.get()
        if self.error:
            raise self.error
        try:
            return Reply(outcome=await self._runner.answer(request, Deadline(time_limit)))
        except RunnerLost:
            raise aiohttp.ServerDisconnectedError from None
        except Refusal as refusal:
            if refusal.__cause__:
                raise InternalServerError("/home/x") from None
            return Reply(outcome=refusal.failure)


async def until(met: Callable[[], object]) -> None:
    """Returns once `met` does with something true; fails after 10 seconds."""
    async with asyncio.timeout(10):
        while not met():  # noqa: ASYNC110
            await asyncio.sleep(0.01)
