"""Works around BentoML and the libraries that it serves with: values for its options, and patches.

Each was seen to be needed, and to work, with the versions of `_SEEN_ON`. If a library has changed,
`apply_workarounds` leaves out the patch that no longer fits and says what that costs. Therefore the
private parts of the libraries are imported in the patches, after they have been checked.
"""

import asyncio
import atexit
import errno
import fcntl
import inspect
import os
import pkgutil
import shutil
import socket
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import wraps
from typing import Any

import click

# Values for the options of a service

NO_TIMEOUT = 24 * 3600
"""Seconds, for a service's `traffic`. BentoML's own timeout answers with a body that the REST API
guide does not have; the gateway and the engines limit the time instead."""

KEEP_CONNECTION = {"max_requests": 10**9, "max_age": 1e9}
"""For a service's `runner_connection`. By default BentoML's client drops its connection to a
runner, and every call on it, after 100 requests or 300 seconds."""

NO_ACCESS_LOG = {"access": {"enabled": False}}
"""For a service's `logging`. BentoML logs the calls from gateway to runner like those of clients,
and knows neither model nor reason; `api/middleware/request_log.py` logs a line a request."""

# Patches: what each relies on

_SEEN_ON = "BentoML 1.4.40, circus 0.18.3 and uvicorn 0.54.0"
"""circus comes with the distribution kantoku."""


@dataclass(frozen=True)
class Workaround:
    """A patch of the libraries, and what it was written for."""

    apply: Callable[[], None]
    relies_on: dict[str, tuple[str, ...]]
    """The functions of the libraries that the patch was written for: the name of each, as
    `pkgutil.resolve_name` takes it, and its parameters. The patch fits if all are there."""
    otherwise: str
    """What happens without the patch, as the end of a sentence."""


def apply_workarounds(patience: float) -> list[str]:
    """Patch BentoML, circus and uvicorn in this process. Returns a warning per patch left out.

    A patch is left out if what it relies on has changed. Every process of a `bentoml serve` has to
    call this, and does so by importing `service.py`.

    patience: seconds that the requests in flight get when the server stops.
    """
    return [warning for each in workarounds(patience) if (warning := _apply(each))]


def workarounds(patience: float) -> list[Workaround]:
    """All patches. patience: see `apply_workarounds`."""
    return [
        Workaround(
            lambda: patch_shutdown(patience),
            {
                "bentoml._internal.utils.circus:Arbiter.stop": ("self",),
                "circus.arbiter:Arbiter.stop": ("self",),
                "circus.arbiter:Arbiter._stop_watchers": (
                    "self",
                    "close_output_streams",
                    "watcher_iter_func",
                ),
                "circus.arbiter:Arbiter.iter_watchers": ("self", "reverse"),
                "circus.watcher:Watcher._stop": ("self", "close_output_streams"),
                "uvicorn:Server.shutdown": ("self", "sockets"),
            },
            "a stop of the server may fail requests in flight",
        ),
        Workaround(
            patch_respawn,
            {"bentoml.serving:running_inside_container": ()},
            "a runner that dies in a container is not started again",
        ),
        Workaround(
            patch_metrics_folder,
            {"bentoml.serving:ensure_prometheus_dir": ("directory", "clean", "use_alternative")},
            "a second server on this machine breaks the first one unless each has a BENTOML_HOME",
        ),
        Workaround(
            patch_bind,
            {"circus.sockets:CircusSocket.bind_and_listen": ("self",)},
            "a port in use ends the start with a traceback",
        ),
    ]


def _apply(workaround: Workaround) -> str | None:
    """Apply the patch if what it relies on is as it was; otherwise return the warning."""
    for name, parameters in workaround.relies_on.items():
        if _parameters(name) != parameters:
            return (
                f"{name.replace(':', '.')} is not what it was with {_SEEN_ON}; "
                f"without the workaround that relies on it, {workaround.otherwise}."
            )
    workaround.apply()
    return None


def _parameters(name: str) -> tuple[str, ...] | None:
    """The parameters of the function of this name; None where there is no such function."""
    try:
        return tuple(inspect.signature(pkgutil.resolve_name(name)).parameters)
    except (ImportError, AttributeError, TypeError, ValueError):
        return None


# Patches: what each does

_GATEWAY = "service"
"""BentoML's name of the watcher of the service that it was told to serve."""
_ACCEPT_SECONDS = 0.01
"""Time to accept the connections that the kernel has completed."""
_HEAD_SECONDS = 0.5
"""Time for accepted connections to send the head of their request."""


def patch_shutdown(patience: float) -> None:
    """Stop the gateway first, once it has sent its last answers, then the runners.

    BentoML stops all its processes at once and first removes the sockets of the runners, so that
    requests in flight fail. Clients that connect meanwhile wait for a gateway that is gone.

    patience: seconds that the requests in flight get.
    """
    _stop_gateway_before_runners(patience)
    _refuse_connections_before_shutdown()


def _stop_gateway_before_runners(patience: float) -> None:
    from bentoml._internal.utils.circus import Arbiter
    from circus.watcher import Watcher

    stop: Callable[[Arbiter], Any] = super(Arbiter, Arbiter).stop

    @wraps(Arbiter._stop_watchers)
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

    @wraps(Arbiter.stop)
    def stop_then_clean_up(arbiter: Arbiter) -> Any:
        stopped = stop(arbiter)
        stopped.add_done_callback(lambda _: arbiter.exit_stack.close())
        return stopped

    Arbiter._stop_watchers = stop_watchers
    Arbiter.stop = stop_then_clean_up  # type: ignore[method-assign, assignment]


def _refuse_connections_before_shutdown() -> None:
    """Make a server that stops refuse new connections before it shuts down.

    Every process of a `bentoml serve` holds the listening socket, so closing it in the one that
    listens is not enough for the kernel to refuse connections. A runner's Unix socket stays open:
    once the gateway is gone, nobody connects to it, and a runner that is started again uses it.
    """
    from uvicorn import Server

    shut_down = Server.shutdown

    @wraps(shut_down)
    async def close_then_shut_down(
        server: Server, sockets: list[socket.socket] | None = None
    ) -> None:
        await asyncio.sleep(_ACCEPT_SECONDS)
        for listener in sockets or []:
            if listener.family != socket.AF_UNIX:
                listener.shutdown(socket.SHUT_RDWR)
        for listening in server.servers:
            listening.close()
        await asyncio.sleep(_HEAD_SECONDS)
        await shut_down(server, sockets)

    Server.shutdown = close_then_shut_down  # type: ignore[method-assign, assignment]


def patch_respawn() -> None:
    """Start a process that died again, in a container too.

    In a container BentoML does not, and relies on a restart of the container, which would end the
    other runners with it: https://github.com/bentoml/BentoML, src/bentoml/serving.py.
    """
    from bentoml import serving

    serving.running_inside_container = lambda: False  # type: ignore[assignment]


def patch_metrics_folder() -> None:
    """Give each server a folder of its own for its metrics, until it ends.

    BentoML has one folder under BENTOML_HOME, and every start wipes it, even if another server
    uses it.
    """
    from bentoml import serving

    @wraps(serving.ensure_prometheus_dir)
    def make_own_folder(*_: object, **__: object) -> str:
        folder = tempfile.mkdtemp(prefix="chatvlm-")
        # Locked until this process ends, as systemd-tmpfiles removes no old files of such a folder.
        fcntl.flock(os.open(folder, os.O_RDONLY), fcntl.LOCK_SH)
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        return folder

    serving.ensure_prometheus_dir = make_own_folder


def patch_bind() -> None:
    """End the start with one sentence if the port is in use; BentoML shows a traceback.

    It replaces `bind`, because its caller `bind_and_listen` logs an `OSError` before it goes on.
    `bind` is Python's own method and has no parameters to check, so its caller is checked.
    """
    from circus.sockets import CircusSocket

    bind = CircusSocket.bind

    def bind_or_explain(listener: CircusSocket, address: Any) -> None:
        try:
            bind(listener, address)
        except OSError as error:
            if error.errno != errno.EADDRINUSE or listener.is_unix:
                raise
            raise click.ClickException(
                f"Port {listener.port} of {listener.host} is in use by another program: stop it, "
                "or choose another port with --port."
            ) from error

    CircusSocket.bind = bind_or_explain
