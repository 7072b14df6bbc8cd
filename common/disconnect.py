"""An ASGI middleware that cancels the work for a client that has disconnected.

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
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        watch: asyncio.Task[Message] | None = None
        started = answered = False
        loop = asyncio.get_running_loop()

        async def watched_receive() -> Message:
            nonlocal watch
            if watch is not None:
                return await asyncio.shield(watch)
            message = await receive()
            if message["type"] == "http.disconnect":
                handler.cancel()
                await asyncio.sleep(0)  # the cancellation arrives before the app sees the message
            elif not message.get("more_body", False):
                watch = loop.create_task(wait_for_disconnect())
            return message

        async def wait_for_disconnect() -> Message:
            message = await receive()
            if not answered:
                handler.cancel()
            return message

        async def watched_send(message: Message) -> None:
            nonlocal started, answered
            started = True
            # The server also reports a disconnect once the response is complete.
            if message["type"] == "http.response.body" and not message.get("more_body", False):
                answered = True
            await send(message)

        handler: asyncio.Future[Any] = asyncio.ensure_future(
            self.app(scope, watched_receive, watched_send)
        )
        try:
            await asyncio.wait({handler})
        except asyncio.CancelledError:  # the server is shutting down
            handler.cancel()
            await asyncio.wait({handler})
            raise
        finally:
            if watch is not None:
                watch.cancel()
        try:
            handler.result()
        except asyncio.CancelledError:
            if not started:
                # Nobody receives it, but BentoML keeps a request open until a message is sent or
                # its own timeout has passed, and a shutdown waits for open requests.
                await Response(status_code=CLIENT_CLOSED_REQUEST)(scope, receive, send)
