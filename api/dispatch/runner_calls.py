"""Calls one runner over HTTP: through a Unix socket, or TCP to another host."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import unquote, urlsplit

import aiohttp
from opentelemetry import propagate
from pydantic_core import to_json

from api.dispatch.runner_errors import check_model, failures_as_refusals
from common.deadline import Deadline
from common.failures import Failure, Refusal
from common.logs import request_ids
from common.messages import Answer, Reply, Request, Status, Stream
from common.units import MIB

CONNECT_TIMEOUT = 2.0
"""Seconds to connect to a runner."""
MAX_REPLY_BYTES = 64 * MIB
KEEPALIVE = {"TCP_KEEPIDLE": 3, "TCP_KEEPINTVL": 3, "TCP_KEEPCNT": 3, "TCP_USER_TIMEOUT": 12_000}
"""Socket options, where the system knows them: a host that vanishes is lost after 12 seconds."""


class RunnerCalls:
    """The HTTP calls to one runner.

    Every call has a connection of its own, which is closed when the call is cancelled or its stream
    closed: the runner stops the work for a connection that ends.

    Every call raises `Refusal`: `RunnerLost` if the runner cannot be reached or is lost, else what
    the runner itself refuses.
    """

    def __init__(self, model: str, url: str) -> None:
        """url: `http://address:port`, or `file://` and the path of a Unix socket."""
        self._model = model
        parts = urlsplit(url)
        self.host = parts.hostname
        """None on the gateway's own host."""
        self._port = parts.port
        self._path = unquote(parts.path) if parts.scheme == "file" else None
        self._base = "http://runner" if self._path else url

    async def answer(self, request: Request, deadline: Deadline) -> Answer:
        async with self._post("answer", request, deadline) as response:
            return outcome_of(Reply.model_validate_json(await response.read()))

    async def stream(self, request: Request, deadline: Deadline) -> Stream:
        """Pieces, then the whole answer."""
        async with self._post("stream", request, deadline) as response:
            async for line in response.content:
                outcome = outcome_of(Reply.model_validate_json(line))
                yield outcome
                if isinstance(outcome, Answer):
                    return
            raise aiohttp.ServerDisconnectedError("The stream ended without its answer")

    async def load(self) -> Status:
        """Load the model, however long it takes. Returns the status afterwards."""
        async with self._post("load") as response:
            return outcome_of(Reply.model_validate_json(await response.read()))

    async def unload(self) -> bool:
        """Unload the model. Returns whether it was loaded."""
        async with self._post("unload") as response:
            was_loaded: bool = json.loads(await response.read())
            return was_loaded

    async def status(self) -> Status:
        async with self._post("status") as response:
            return Status.model_validate_json(await response.read())

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[asyncio.StreamReader]:
        """A connection on which nothing is sent. Raises `OSError`."""
        async with asyncio.timeout(CONNECT_TIMEOUT):
            if self._path:
                reader, writer = await asyncio.open_unix_connection(self._path)
            else:
                reader, writer = await asyncio.open_connection(self.host, self._port)
                _keep_alive(writer.get_extra_info("socket"))
        try:
            yield reader
        finally:
            writer.close()

    @asynccontextmanager
    async def _post(
        self, method: str, request: Request | None = None, deadline: Deadline | None = None
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """One call, which lasts while its response is read. Raises `Refusal`."""
        headers = {"Content-Type": "application/json"}
        propagate.inject(headers)
        with failures_as_refusals(self._model, may_have_started=method != "status"):
            async with (
                aiohttp.ClientSession(
                    connector=aiohttp.UnixConnector(self._path)
                    if self._path
                    else aiohttp.TCPConnector(socket_factory=_make_socket),
                    timeout=aiohttp.ClientTimeout(None, sock_connect=CONNECT_TIMEOUT),
                    read_bufsize=MAX_REPLY_BYTES,
                ) as session,
                session.post(
                    f"{self._base}/{method}",
                    data=to_json(arguments_of(request, deadline), bytes_mode="base64"),
                    headers=headers,
                    raise_for_status=True,
                ) as response,
            ):
                check_model(self._model, response.headers.get("Server", ""))
                yield response


def arguments_of(request: Request | None, deadline: Deadline | None) -> dict[str, Any]:
    """The arguments of a call. Raises `Refusal` (DEADLINE) if no time is left for it."""
    if request is None or deadline is None:
        return {}
    deadline.check("The request's time limit passed before a model could begin.")
    return {
        "request": request,
        "time_limit": deadline.left,
        "request_id": request_ids.current.get(),
    }


def outcome_of(reply: Reply) -> Any:
    """What the runner replied. Raises `Refusal` if that is a failure."""
    if isinstance(reply.outcome, Failure):
        raise Refusal.of(reply.outcome)
    return reply.outcome


def _make_socket(address: aiohttp.AddrInfoType) -> socket.socket:
    made = socket.socket(*address[:3])
    _keep_alive(made)
    return made


def _keep_alive(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in KEEPALIVE.items():
        if option := getattr(socket, name, None):
            connection.setsockopt(socket.IPPROTO_TCP, option, value)
