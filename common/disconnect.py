"""Cancels the work for a client that has disconnected, as an ASGI middleware.

Neither Starlette nor BentoML cancels a handler whose client is gone. The gateway's call to a runner
is an HTTP request too, so the same middleware on both passes the cancellation on: the client
disconnects, the gateway's handler is cancelled, its connection to the runner closes, and the
runner's handler is cancelled, whichever process it runs in.
"""

import asyncio
from typing import Any

from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

CLIENT_CLOSED_REQUEST = 499
"""The status that nginx logs for such a request."""


class CancelOnDisconnect:
    """Cancels the app's handler of an HTTP request once its client has disconnected."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await _WatchedRequest(self.app, scope, receive, send).finish()
        else:
            await self.app(scope, receive, send)


class _WatchedRequest:
    """One HTTP request, whose handler runs in a task of its own, so that it can be cancelled.

    A disconnect is the message that the server sends after the request's body. Most apps receive
    the body and nothing more, so from then on a task waits for that message.
    """

    def __init__(self, app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        self._scope = scope
        self._receive = receive
        self._send = send
        self._started = False
        """Whether the app has begun to answer."""
        self._answered = False
        """Whether the answer is complete; then the server reports a disconnect too."""
        self._disconnect: asyncio.Task[Message] | None = None
        """Waits for the disconnect, once the body has been received."""
        self._handler: asyncio.Future[Any] = asyncio.ensure_future(
            app(scope, self._watched_receive, self._watched_send)
        )

    async def finish(self) -> None:
        """Wait for the handler. Raises what the handler raises, except its cancellation after a
        disconnect."""
        try:
            await asyncio.wait({self._handler})
        except asyncio.CancelledError:  # the server is shutting down
            self._handler.cancel()
            await asyncio.wait({self._handler})
            raise
        finally:
            if self._disconnect is not None:
                self._disconnect.cancel()
        try:
            self._handler.result()
        except asyncio.CancelledError:
            if not self._started:
                # Nobody receives it, but BentoML keeps a request open until a message is sent or
                # its own timeout has passed, and a shutdown waits for open requests.
                closed = Response(status_code=CLIENT_CLOSED_REQUEST)
                await closed(self._scope, self._receive, self._send)

    async def _watched_receive(self) -> Message:
        if self._disconnect is not None:
            return await asyncio.shield(self._disconnect)
        message = await self._receive()
        if message["type"] == "http.disconnect":
            self._handler.cancel()
            await asyncio.sleep(0)  # the cancellation arrives before the app sees the message
        elif not message.get("more_body", False):
            self._disconnect = asyncio.create_task(self._wait_for_disconnect())
        return message

    async def _wait_for_disconnect(self) -> Message:
        message = await self._receive()
        if not self._answered:
            self._handler.cancel()
        return message

    async def _watched_send(self, message: Message) -> None:
        self._started = True
        if message["type"] == "http.response.body" and not message.get("more_body", False):
            self._answered = True
        await self._send(message)
