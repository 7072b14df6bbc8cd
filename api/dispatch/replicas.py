"""The runners of one model: one beside the gateway, or replicas elsewhere that come and go."""

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import TypeVar
from urllib.parse import urlsplit

from api.dispatch.runner_client import LocalRunnerClient, RunnerClient
from api.dispatch.runner_errors import RunnerLost
from common.catalog import CATALOG
from common.failures import ErrorCode, Refusal
from common.messages import Status

logger = logging.getLogger(__name__)
T = TypeVar("T")

LOOK_UP_SECONDS = 2.0
"""Between two look-ups of the addresses."""
MAX_LOSSES = 2
"""Runners that may be lost at work on one request: the request may be what kills them."""
TRIED_ELSEWHERE = {ErrorCode.QUEUE_FULL, ErrorCode.UNAVAILABLE}
"""Refusals after which another replica is tried."""
NO_SUCH_NAME = {socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)}
STATES = ("loaded", "loading", "unloaded", "unavailable")
"""The best one first."""


class Replicas:
    """Finds the runners of one model, and picks the one that gets a request."""

    def __init__(
        self, model: str, urls: Sequence[str] = (), local: LocalRunnerClient | None = None
    ) -> None:
        """urls: of remote runners; a host name stands for all addresses that it resolves to."""
        self.model = model
        self.local = local
        self._found: dict[str, list[str]] = {url: [] for url in urls}
        """By URL with a host name, URLs with one address each."""
        self._remote: dict[str, RunnerClient] = {}
        self._watch: asyncio.Task[None] | None = None

    @property
    def runners(self) -> list[RunnerClient]:
        return [self.local] if self.local else list(self._remote.values())

    @property
    def reachable(self) -> list[RunnerClient]:
        return [runner for runner in self.runners if runner.reachable]

    def open(self) -> None:
        """Find the runners and watch over them until the replicas are closed."""
        if self.local:
            self.local.open()
        self._watch = asyncio.create_task(self._watch_addresses())

    def close(self) -> None:
        if self._watch is not None:
            self._watch.cancel()
        for runner in self.runners:
            runner.close()

    async def _watch_addresses(self) -> None:
        while True:
            await asyncio.gather(*map(self._look_up, self._found))
            found = {url for urls in self._found.values() for url in urls}
            for url in self._remote.keys() - found:
                self._remote.pop(url).close()
            for url in found - self._remote.keys():
                self._remote[url] = RunnerClient(self.model, url)
                self._remote[url].open()
            await asyncio.sleep(LOOK_UP_SECONDS)

    async def _look_up(self, url: str) -> None:
        parts = urlsplit(url)
        try:
            infos = await asyncio.get_running_loop().getaddrinfo(
                parts.hostname, parts.port, type=socket.SOCK_STREAM
            )
        except socket.gaierror as error:
            if error.errno not in NO_SUCH_NAME:
                logger.warning("Looking up %s: %s", parts.hostname, error)
                return  # the addresses known so far stay
            infos = []
        # A host with IPv4 and IPv6 is one replica; `bentoml serve` listens on IPv4 by default.
        family = min((family for family, *_ in infos), default=None)
        template = "http://[%s]:%s" if family == socket.AF_INET6 else "http://%s:%s"
        self._found[url] = [template % at[:2] for of, *_, at in infos if of == family]

    async def try_each(self, attempt: Callable[[RunnerClient], Awaitable[T]]) -> T:
        """The outcome of `attempt` with the best runner that does not refuse it.

        After a refusal in TRIED_ELSEWHERE the next runner is tried.

        Raises `Refusal`: that of the runner; of several, rather not a `RunnerLost`.
        """
        refusals: list[Refusal] = []
        losses = 0
        for runner in self._candidates():
            try:
                return await attempt(runner)
            except Refusal as refusal:
                if refusal.code not in TRIED_ELSEWHERE:
                    raise
                refusals.append(refusal)
                losses += isinstance(refusal, RunnerLost) and refusal.at_work
                if losses == MAX_LOSSES:
                    break
        telling = [refusal for refusal in refusals if not isinstance(refusal, RunnerLost)]
        raise [*telling, *refusals, RunnerLost(self.model)][0]

    def _candidates(self) -> Iterator[RunnerClient]:
        """Each reachable runner once: those with the model loaded first, the least busy of them."""
        tried: set[RunnerClient] = set()
        while left := [runner for runner in self.reachable if runner not in tried]:
            best = min(left, key=self._cost)
            tried.add(best)
            yield best

    def _cost(self, runner: RunnerClient) -> tuple[bool, bool, int, float]:
        must_load = CATALOG[self.model].has_weights and runner.last_status.state != "loaded"
        return runner.last_status.reason is not None, must_load, runner.calls, runner.last_call

    def unloaded_alternative(self, runner: RunnerClient) -> RunnerClient | None:
        """An unloaded runner with fewer requests, to which the last one of `runner` could go."""
        for other in self.reachable:
            status = other.last_status
            if status.state == "unloaded" and not status.reason and other.calls < runner.calls - 1:
                return other
        return None

    async def unload(self) -> bool:
        """Unload the model on every reachable runner; whether any had it loaded.

        Raises `Refusal` where no runner is reachable, or one is lost meanwhile.
        """
        if not self.reachable:
            raise RunnerLost(self.model)
        return any(await asyncio.gather(*(runner.unload() for runner in self.reachable)))

    async def cached_status(self) -> Status:
        """The status of all runners together: the best state; memory and requests are sums."""
        statuses = await asyncio.gather(*(runner.cached_status() for runner in self.runners))
        if not statuses:
            return Status(state="unavailable", reason=RunnerLost(self.model).failure.detail)
        held = [status.memory_bytes for status in statuses if status.memory_bytes is not None]
        best = min(statuses, key=lambda status: STATES.index(status.state))
        return best.model_copy(
            update={
                "memory_bytes": sum(held) if held else None,
                "rows": sum(status.rows for status in statuses),
                "queued": sum(status.queued for status in statuses),
            }
        )
