"""One runner as the gateway knows it: whether it is reachable, its last status, its calls."""

import asyncio
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from api.dispatch.runner_calls import RunnerCalls, arguments_of, outcome_of
from api.dispatch.runner_errors import RunnerLost, failures_as_refusals
from common.deadline import Deadline
from common.failures import Refusal
from common.messages import Answer, Request, Status, Stream

logger = logging.getLogger(__name__)

CACHED_STATUS_TIMEOUT = 0.03
"""Seconds; a runner too busy to report by then is shown with its last status."""
STATUS_TIMEOUT = 10.0
"""Seconds; a runner that does not report its status for so long is lost."""
RECONNECT_SECONDS = 0.5


class RunnerClient:
    """Calls one runner, as `RunnerCalls` does, and keeps watch over it while it is open."""

    def __init__(self, model: str, url: str) -> None:
        """url: `http://address:port`, or `file://` and the path of a Unix socket."""
        self.model = model
        self.url = url
        self._http = RunnerCalls(model, url)
        self.host = self._http.host
        """None on the gateway's own host."""
        self.started = False
        """Whether it was ever reached."""
        self.reachable = False
        """Whether calls may be sent to it."""
        self.last_status = _unavailable(RunnerLost(model))
        """As it last reported, or "unavailable" since it was lost."""
        self.requests = 0
        """How many requests of this gateway it has not answered yet."""
        self.last_request = 0.0
        """When the last request was sent, by the monotonic clock."""
        self._status_timeouts: set[asyncio.Timeout] = set()
        """One for each call that waits for a status; it expires at once when the runner is lost."""
        self._watch: asyncio.Task[None] | None = None
        self._refresh: asyncio.Task[None] | None = None

    def open(self) -> None:
        """Keep `reachable` up to date until the client is closed."""
        self._watch = asyncio.create_task(self._watch_connection())

    def close(self) -> None:
        for task in (self._watch, self._refresh):
            if task is not None:
                task.cancel()

    @contextmanager
    def track_request(self) -> Iterator[None]:
        """Count a request while the context is open.

        Afterwards a model that was not known to be loaded may be: the embedded reader loads itself.
        """
        self.requests += 1
        self.last_request = time.monotonic()
        try:
            yield
        finally:
            self.requests -= 1
            if self.last_status.state != "loaded":
                self._start_refresh()

    async def answer(self, request: Request, deadline: Deadline) -> Answer:
        return await self._http.answer(request, deadline)

    def stream(self, request: Request, deadline: Deadline) -> Stream:
        """Pieces, then the whole answer."""
        return self._http.stream(request, deadline)

    async def load(self) -> None:
        self.last_status = await self._http.load()

    async def unload(self) -> bool:
        """Unload the model. Returns whether it was loaded."""
        was_loaded = await self._http.unload()
        self.last_status = Status(state="unloaded")
        return was_loaded

    async def status(self) -> Status:
        """The status as the runner reports it now.

        Raises `Refusal`; `RunnerLost` as soon as the watch notices the loss, since the socket of a
        runner that died may still accept calls.
        """
        try:
            async with asyncio.timeout(STATUS_TIMEOUT) as timeout:
                self._status_timeouts.add(timeout)
                try:
                    self.last_status = await self._http.status()
                finally:
                    self._status_timeouts.discard(timeout)
        except TimeoutError as error:
            raise RunnerLost(self.model) from error
        return self.last_status

    async def cached_status(self) -> Status:
        """The last status, refreshed if the runner reports within CACHED_STATUS_TIMEOUT."""
        if refresh := self._start_refresh():
            # A refresh that is late goes on, so that the next caller finds what it brings.
            await asyncio.wait({refresh}, timeout=CACHED_STATUS_TIMEOUT)
        return self.last_status

    def _start_refresh(self) -> asyncio.Task[None] | None:
        """The refresh of the last status that runs or is started; None if no call may be sent."""
        if self.reachable and (self._refresh is None or self._refresh.done()):
            self._refresh = asyncio.create_task(self._refresh_status())
        return self._refresh if self.reachable else None

    async def _refresh_status(self) -> None:
        try:
            await self.status()
        except Refusal as refusal:
            self.last_status = _unavailable(refusal)

    async def _watch_connection(self) -> None:
        """Hold an idle connection, which ends when the runner dies or begins to stop.

        Calls would not show that: `bentoml serve` keeps the runner's socket open, where they wait
        for the next process.
        """
        while True:
            lost: Exception = RunnerLost(self.model)
            pause = RECONNECT_SECONDS
            try:
                async with self._http.connect() as connection:
                    await self.status()
                    self.started = self.reachable = True
                    await connection.read()
                    pause = 0
            except (OSError, Refusal) as error:
                lost = error
            self._mark_lost(lost)
            await asyncio.sleep(pause)

    def _mark_lost(self, error: Exception) -> None:
        status = _unavailable(error if isinstance(error, Refusal) else RunnerLost(self.model))
        if self.reachable or status != self.last_status:
            logger.warning("%s: %s (%r)", self.url, status.reason, error.__cause__ or error)
        self.reachable, self.last_status = False, status
        for timeout in self._status_timeouts:
            if not timeout.expired():
                timeout.reschedule(0)


class LocalRunnerClient(RunnerClient):
    """A runner beside the gateway.

    `answer` goes through BentoML's own client, which sends no JSON: images in it are base64, which
    costs 5 ms for 1 MiB. `stream` stays with JSON, because BentoML's client may split or join the
    lines of a stream.
    """

    def __init__(self, model: str, dependency: Any) -> None:
        """dependency: what `bentoml.depends` makes of the runner."""
        super().__init__(model, dependency.to_async.url)
        self._dependency = dependency

    async def answer(self, request: Request, deadline: Deadline) -> Answer:
        with failures_as_refusals(self.model):
            arguments = arguments_of(request, deadline)
            answer: Answer = outcome_of(await self._dependency.to_async.answer(**arguments))
            return answer


def _unavailable(refusal: Refusal) -> Status:
    return Status(state="unavailable", reason=refusal.failure.detail)
