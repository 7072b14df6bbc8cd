import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import uvicorn
from starlette.requests import Request
from starlette.responses import PlainTextResponse, StreamingResponse

from common.disconnect import CancelOnDisconnect

PATIENCE = 10
"""Seconds until a test that waits in vain fails."""


class App:
    """Reads a request's body, works until it may stop, answers; says how it ended."""

    def __init__(self) -> None:
        self.reading = asyncio.Event()
        self.working = asyncio.Event()
        self.may_stop = asyncio.Event()
        self.ended = asyncio.Queue[str]()

    async def __call__(self, scope, receive, send) -> None:
        assert scope["type"] == "http"
        try:
            self.reading.set()
            body = await Request(scope, receive).body()
            self.working.set()
            if scope["path"] == "/stream":
                response = StreamingResponse(self.pieces())
            else:
                await self.may_stop.wait()
                response = PlainTextResponse(body)
            await response(scope, receive, send)
        except BaseException as error:
            self.ended.put_nowait(type(error).__name__)
            raise
        self.ended.put_nowait("answered")

    async def pieces(self) -> AsyncIterator[bytes]:
        yield b"first"
        await self.may_stop.wait()
        yield b"last"

    async def end(self) -> str:
        return await asyncio.wait_for(self.ended.get(), PATIENCE)


class Peer:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def post(self, body: bytes, length: int | None = None, path: str = "/") -> None:
        head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {length or len(body)}\r\n\r\n"
        self.writer.write(head.encode() + body)
        await self.writer.drain()

    async def reply(self, end: bytes) -> bytes:
        return await asyncio.wait_for(self.reader.readuntil(end), PATIENCE)

    def hang_up(self) -> None:
        self.writer.transport.abort()


@asynccontextmanager
async def serving(app) -> AsyncIterator[Peer]:
    config = uvicorn.Config(
        CancelOnDisconnect(app), lifespan="off", log_config=None, timeout_graceful_shutdown=1
    )
    server = uvicorn.Server(config)
    listening = socket.create_server(("127.0.0.1", 0))
    serving = asyncio.create_task(server.serve([listening]))
    peer = Peer(*await asyncio.open_connection(*listening.getsockname()))
    try:
        yield peer
    finally:
        peer.hang_up()
        server.should_exit = True
        await serving


@pytest.mark.parametrize("sent", [b"", b"half"])
async def test_work_is_cancelled_when_the_peer_hangs_up_before_its_body_is_there(sent, caplog):
    app = App()
    async with serving(app) as peer:
        await peer.post(sent, length=8)
        await asyncio.wait_for(app.reading.wait(), PATIENCE)
        peer.hang_up()
        assert await app.end() == "CancelledError"
    assert not caplog.records


async def test_work_is_cancelled_when_the_peer_hangs_up_after_its_body(caplog):
    app = App()
    async with serving(app) as peer:
        await peer.post(b"whole")
        await asyncio.wait_for(app.working.wait(), PATIENCE)
        peer.hang_up()
        assert await app.end() == "CancelledError"
    assert not caplog.records


async def test_what_waits_for_a_first_message_is_let_go_when_the_peer_hangs_up():
    sent = []

    async def receive() -> dict:
        return {"type": "http.disconnect"}

    async def send(message) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": "/", "headers": []}
    await CancelOnDisconnect(App())(scope, receive, send)
    assert [message.get("status") for message in sent] == [499, None]


async def test_work_is_cancelled_when_the_peer_hangs_up_during_the_answer():
    app = App()
    async with serving(app) as peer:
        await peer.post(b"whole", path="/stream")
        await peer.reply(b"first")
        peer.hang_up()
        assert await app.end() == "CancelledError"


async def test_work_is_not_cancelled_while_the_peer_stays():
    app = App()
    async with serving(app) as peer:
        await peer.post(b"whole")
        await asyncio.wait_for(app.working.wait(), PATIENCE)
        await asyncio.sleep(0.05)
        app.may_stop.set()
        assert (await peer.reply(b"whole")).startswith(b"HTTP/1.1 200 OK")
        assert await app.end() == "answered"


async def test_requests_follow_one_another_on_one_connection():
    app = App()
    app.may_stop.set()
    async with serving(app) as peer:
        for body in (b"one", b"two", b"three"):
            await peer.post(body)
            assert (await peer.reply(body)).startswith(b"HTTP/1.1 200 OK")
            assert await app.end() == "answered"
        await peer.post(b"streamed", path="/stream")
        assert b"last" in await peer.reply(b"0\r\n\r\n")
        app.may_stop.clear()
        app.working.clear()
        await peer.post(b"four")
        await asyncio.wait_for(app.working.wait(), PATIENCE)
        peer.hang_up()
        assert [await app.end(), await app.end()] == ["answered", "CancelledError"]


async def test_what_the_app_raises_is_raised():
    async def fails(scope, receive, send) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await CancelOnDisconnect(fails)({"type": "http"}, None, None)


async def test_what_the_server_cancels_is_cancelled():
    app = App()

    async def receive() -> dict:
        return {"type": "http.request", "body": b""} if not app.working.is_set() else await never()

    async def never() -> dict:
        return await asyncio.Event().wait()

    scope = {"type": "http", "method": "POST", "path": "/", "headers": []}
    task = asyncio.create_task(CancelOnDisconnect(app)(scope, receive, None))
    await asyncio.wait_for(app.working.wait(), PATIENCE)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await app.end() == "CancelledError"


async def test_other_scopes_pass_through():
    seen = []

    async def app(scope, receive, send) -> None:
        seen.append((scope, receive, send))

    await CancelOnDisconnect(app)({"type": "lifespan"}, 1, 2)
    assert seen == [({"type": "lifespan"}, 1, 2)]
