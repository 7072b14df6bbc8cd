"""One runner as the gateway calls it, over HTTP: beside the gateway, or on another host."""

import asyncio
import json
import logging
import socket
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any
from urllib.parse import unquote, urlsplit

import aiohttp
from bentoml.exceptions import BentoMLException
from opentelemetry import propagate
from pydantic_core import to_json

from common.deadline import Deadline
from common.failures import ErrorCode, Failure, Refusal
from common.messages import Answer, Reply, Request, Status, Stream

logger = logging.getLogger(__name__)

STANDING_TIMEOUT = 0.03
"""Seconds; a runner too busy to answer by then is shown as it was last seen."""
CONNECT_TIMEOUT = 2.0
"""Seconds."""
SILENCE = 10.0
"""Seconds; a runner that does not say how it stands for so long is lost."""
RECONNECT_SECONDS = 0.5
RESTART_SECONDS = 10
"""What a runner that died takes to come back, about."""
MAX_REPLY_BYTES = 64 * 2**20
KEEPALIVE = {"TCP_KEEPIDLE": 3, "TCP_KEEPINTVL": 3, "TCP_KEEPCNT": 3, "TCP_USER_TIMEOUT": 12_000}
"""A host that vanishes without a word is lost 12 s after its last one; what the system knows."""
SERVED_BY = "BentoML Service/"
"""Before the service's name in the header `Server`."""


class Lost(Refusal):
    """The runner cannot be reached, or went away.

    at_work: while it may have worked on the request.
    """

    def __init__(self, model: str, at_work: bool = False) -> None:
        super().__init__(
            ErrorCode.UNAVAILABLE,
            f"The runner of model '{model}' was lost while it worked on this; try again."
            if at_work
            else f"No runner of model '{model}' answers at the moment; try again.",
            RESTART_SECONDS,
        )
        self.at_work = at_work


class Runner:
    """Its calls raise `Refusal`, and `Lost`. Cancelling one, or closing a stream, stops the work
    that is done for it, as every call has a connection of its own that ends with it."""

    def __init__(self, model: str, url: str) -> None:
        """url: `http://address:port`, or `file://` and the path of a Unix socket."""
        self.model = model
        self.url = url
        parts = urlsplit(url)
        self.host = parts.hostname
        """None is the gateway's own."""
        self._port = parts.port
        self._path = unquote(parts.path) if parts.scheme == "file" else None
        self._base = "http://runner" if self._path else url
        self.started = False
        """It has answered once."""
        self.answers = False
        """It can be asked."""
        self.seen = _unavailable(Lost(model))
        """As it last said, or as its loss made it."""
        self.calls = 0
        """Requests in flight from this gateway."""
        self.last_call = 0.0
        self._patience: set[asyncio.Timeout] = set()
        """Of those who wait to hear how it stands."""
        self._watch: asyncio.Task[None] | None = None
        self._look: asyncio.Task[None] | None = None

    def open(self) -> None:
        """Keep `answers` true to what is so, until it is closed."""
        self._watch = asyncio.create_task(self._follow())

    def close(self) -> None:
        for task in (self._watch, self._look):
            if task is not None:
                task.cancel()

    @contextmanager
    def busy(self) -> Iterator[None]:
        """A request is in flight."""
        self.calls += 1
        self.last_call = time.monotonic()
        try:
            yield
        finally:
            self.calls -= 1

    async def answer(self, request: Request, deadline: Deadline) -> Answer:
        async with self._post("answer", request, deadline) as response:
            return _outcome(Reply.model_validate_json(await response.read()))

    async def stream(self, request: Request, deadline: Deadline) -> Stream:
        """Pieces, the answer last."""
        async with self._post("stream", request, deadline) as response:
            async for line in response.content:
                outcome = _outcome(Reply.model_validate_json(line))
                yield outcome
                if isinstance(outcome, Answer):
                    return
            raise aiohttp.ServerDisconnectedError("The stream ended without its answer")

    async def load(self) -> None:
        async with self._post("load") as response:
            self.seen = _outcome(Reply.model_validate_json(await response.read()))

    async def unload(self) -> bool:
        """False where nothing was loaded."""
        async with self._post("unload") as response:
            was_loaded: bool = json.loads(await response.read())
        self.seen = Status(state="unloaded")
        return was_loaded

    async def status(self) -> Status:
        """Raises `Lost` as soon as the runner is: a dead one's socket may still take calls."""
        try:
            async with asyncio.timeout(SILENCE) as patience:
                self._patience.add(patience)
                try:
                    async with self._post("status") as response:
                        self.seen = Status.model_validate_json(await response.read())
                finally:
                    self._patience.discard(patience)
        except TimeoutError as error:
            raise Lost(self.model) from error
        return self.seen

    async def standing(self) -> Status:
        """What is known without waiting for a runner that is busy, or lost."""
        if self.answers:
            if self._look is None or self._look.done():
                self._look = asyncio.create_task(self._see())
            await asyncio.wait({self._look}, timeout=STANDING_TIMEOUT)
        return self.seen

    async def _see(self) -> None:
        """Goes on when nobody waits for it any more, so that the next to ask finds what it saw."""
        try:
            await self.status()
        except Refusal as refusal:
            self.seen = _unavailable(refusal)

    async def _follow(self) -> None:
        """Holds a connection on which nothing is said, as it ends when the runner does, or begins
        to. Calls would not tell: `bentoml serve` keeps the socket, where they wait for a successor.
        """
        while True:
            lost: Exception = Lost(self.model)
            pause = RECONNECT_SECONDS
            try:
                async with self._lifeline() as lifeline:
                    await self.status()
                    self.started = self.answers = True
                    await lifeline.read()
                    pause = 0
            except (OSError, Refusal) as error:
                lost = error
            seen = _unavailable(lost if isinstance(lost, Refusal) else Lost(self.model))
            if self.answers or seen != self.seen:
                logger.warning("%s: %s (%r)", self.url, seen.reason, lost.__cause__ or lost)
            self.answers, self.seen = False, seen
            for patience in self._patience:
                if not patience.expired():
                    patience.reschedule(0)
            await asyncio.sleep(pause)

    @asynccontextmanager
    async def _lifeline(self) -> AsyncIterator[asyncio.StreamReader]:
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
        """One call of the runner, as long as its response is read. Raises `Refusal`."""
        headers = {"Content-Type": "application/json"}
        propagate.inject(headers)
        with self._failures(at_work=method != "status"):
            async with (
                aiohttp.ClientSession(
                    connector=aiohttp.UnixConnector(self._path)
                    if self._path
                    else aiohttp.TCPConnector(socket_factory=_socket),
                    timeout=aiohttp.ClientTimeout(None, sock_connect=CONNECT_TIMEOUT),
                    read_bufsize=MAX_REPLY_BYTES,
                ) as session,
                session.post(
                    f"{self._base}/{method}",
                    data=to_json(_asked(request, deadline), bytes_mode="base64"),
                    headers=headers,
                    raise_for_status=True,
                ) as response,
            ):
                self._check(response.headers.get("Server", ""))
                yield response

    @contextmanager
    def _failures(self, at_work: bool) -> Iterator[None]:
        """Raises `Refusal` for whatever goes wrong with a call."""
        try:
            yield
        except (aiohttp.ClientResponseError, BentoMLException, ValueError) as error:
            if at_work:
                logger.error("Model %s failed on a request: %r", self.model, error)
            raise Refusal(
                ErrorCode.FAULT, f"Model '{self.model}' failed on this request; the log says why."
            ) from error
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            raise Lost(self.model) from error
        except (aiohttp.ClientError, OSError) as error:
            raise Lost(self.model, at_work) from error

    def _check(self, server: str) -> None:
        """Raises `Refusal` where another model answered: the setting is wrong, or an address has
        a new owner."""
        served = server.removeprefix(SERVED_BY)
        if served != server and served != self.model:
            raise Refusal(
                ErrorCode.UNAVAILABLE,
                f"'{served}' answers where CHATVLM_REMOTE has a runner of model '{self.model}'.",
            )


class LocalRunner(Runner):
    """Beside the gateway, and answering past JSON: base64 costs an image of 1 MiB some 5 ms."""

    def __init__(self, model: str, dependency: Any) -> None:
        """dependency: what `bentoml.depends` makes."""
        super().__init__(model, dependency.to_async.url)
        self._dependency = dependency

    async def answer(self, request: Request, deadline: Deadline) -> Answer:
        with self._failures(at_work=True):
            asked = _asked(request, deadline)
            return _outcome(await self._dependency.to_async.answer(**asked))


def _socket(address: aiohttp.AddrInfoType) -> socket.socket:
    made = socket.socket(*address[:3])
    _keep_alive(made)
    return made


def _keep_alive(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in KEEPALIVE.items():
        if option := getattr(socket, name, None):
            connection.setsockopt(socket.IPPROTO_TCP, option, value)


def _asked(request: Request | None, deadline: Deadline | None) -> dict[str, Any]:
    """Arguments of a runner's call. Raises `Refusal` where no time is left for it."""
    if request is None or deadline is None:
        return {}
    deadline.check("The request's time limit passed before a model could begin.")
    return {"request": request, "time_limit": deadline.left}


def _outcome(reply: Reply) -> Any:
    """Raises `Refusal` where it is a failure."""
    outcome = reply.outcome
    if isinstance(outcome, Failure):
        raise Refusal.of(outcome)
    return outcome


def _unavailable(refusal: Refusal) -> Status:
    return Status(state="unavailable", reason=refusal.failure.detail)
