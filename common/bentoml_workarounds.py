"""How a `bentoml serve` ends: no new connection, then the gateway's last answers, then the runners.

By itself BentoML ends all its processes at once, the way to the runners first, and leaves those who
connect meanwhile to wait for a gateway that is gone.
"""

import asyncio
import socket
from collections.abc import Callable, Iterable
from typing import Any

from bentoml._internal.utils.circus import Arbiter
from circus.watcher import Watcher
from uvicorn import Server

_GATEWAY = "service"
"""What BentoML names the watcher of the service that it was told to serve."""
_KNOCKING = 0.01
"""Seconds in which those who have connected are let in."""
_SPEAKING = 0.5
"""Seconds in which those who were let in send the head of their request."""


def end_in_order(patience: float) -> None:
    """Has every `bentoml serve` that starts in this process or for it end so.

    patience: seconds that the requests in flight get.
    """
    _stop_the_gateway_first(patience)
    _close_the_door_first()


def _stop_the_gateway_first(patience: float) -> None:
    stop: Callable[[Arbiter], Any] = super(Arbiter, Arbiter).stop

    async def stop_watchers(
        arbiter: Arbiter,
        close_output_streams: bool = False,
        watcher_iter_func: Callable[..., Iterable[Watcher]] | None = None,
    ) -> None:
        watchers = list((watcher_iter_func or arbiter.iter_watchers)(reverse=False))
        gateway = [watcher for watcher in watchers if watcher.name == _GATEWAY]
        runners = [watcher for watcher in watchers if watcher.name != _GATEWAY]
        for group in (gateway, runners):
            for watcher in group:
                watcher.graceful_timeout = patience
            await asyncio.gather(*(watcher._stop(close_output_streams) for watcher in group))

    def stop_then_clean_up(arbiter: Arbiter) -> Any:
        stopped = stop(arbiter)
        stopped.add_done_callback(lambda _: arbiter.exit_stack.close())
        return stopped

    Arbiter._stop_watchers = stop_watchers
    Arbiter.stop = stop_then_clean_up  # type: ignore[method-assign, assignment]


def _close_the_door_first() -> None:
    """Every process of a `bentoml serve` holds the listening socket, so closing it in the one that
    listens is not enough for the kernel to refuse connections. A runner's Unix socket stays as it
    is: nobody knocks there once the gateway is gone, and a successor goes on with it."""
    shut_down = Server.shutdown

    async def close_then_shut_down(
        server: Server, sockets: list[socket.socket] | None = None
    ) -> None:
        await asyncio.sleep(_KNOCKING)
        for listener in sockets or []:
            if listener.family != socket.AF_UNIX:
                listener.shutdown(socket.SHUT_RDWR)
        for listening in server.servers:
            listening.close()
        await asyncio.sleep(_SPEAKING)
        await shut_down(server, sockets)

    Server.shutdown = close_then_shut_down  # type: ignore[method-assign, assignment]
