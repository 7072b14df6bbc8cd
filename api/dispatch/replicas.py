"""The runners of one model: one beside the gateway, or replicas elsewhere that come and go."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import TypeVar

from api.dispatch.addresses import Addresses
from api.dispatch.runner_client import LocalRunnerClient, RunnerClient
from api.dispatch.runner_errors import RunnerLost
from common.catalog import CATALOG
from common.failures import ErrorCode, Refusal
from common.messages import Status

T = TypeVar("T")

LOOK_UP_SECONDS = 2.0
"""Seconds between two look-ups of the addresses."""
MAX_LOSSES = 2
"""Runners that one request may lose after they began it: the request may be what kills them."""
TRIED_ELSEWHERE = {ErrorCode.QUEUE_FULL, ErrorCode.UNAVAILABLE}
"""Refusals after which another replica is tried."""
STATES = ("loaded", "loading", "unloaded", "unavailable")
"""The best one first."""


class Replicas:
    """Finds the runners of one model, and picks the one that gets a request."""

    def __init__(
        self, model: str, urls: Sequence[str] = (), local: LocalRunnerClient | None = None
    ) -> None:
        """urls: those of remote runners, as in the setting."""
        self.model = model
        self.local = local
        self._addresses = Addresses(urls)
        self._remote: dict[str, RunnerClient] = {}
        """The clients of remote runners, by URL with an address."""
        self._watch: asyncio.Task[None] | None = None

    @property
    def runners(self) -> list[RunnerClient]:
        return [self.local] if self.local else list(self._remote.values())

    @property
    def reachable(self) -> list[RunnerClient]:
        return [runner for runner in self.runners if runner.reachable]

    @property
    def answering(self) -> list[RunnerClient]:
        """The reachable runners, without those whose upstream did not answer when last asked."""
        return [
            runner
            for runner in self.reachable
            if not runner.last_status.is_upstream or runner.last_status.state == "loaded"
        ]

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
            found = await self._addresses.look_up()
            for url in self._remote.keys() - found:
                self._remote.pop(url).close()
            for url in found - self._remote.keys():
                self._remote[url] = RunnerClient(self.model, url)
                self._remote[url].open()
            await asyncio.sleep(LOOK_UP_SECONDS)

    async def try_each(self, attempt: Callable[[RunnerClient], Awaitable[T]]) -> T:
        """The outcome of `attempt` with the best runner that does not refuse it.

        After a refusal in TRIED_ELSEWHERE the next runner is tried.

        Raises `Refusal`. If several runners refused, a refusal that is not `RunnerLost` is
        preferred.
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
                losses += isinstance(refusal, RunnerLost) and refusal.may_have_started
                if losses == MAX_LOSSES:
                    break
        reasons = [refusal for refusal in refusals if not isinstance(refusal, RunnerLost)]
        raise [*reasons, *refusals, RunnerLost(self.model)][0]

    def _candidates(self) -> Iterator[RunnerClient]:
        """Each reachable runner once.

        Runners whose last load failed come last, and before them those without the model. Of
        equals, the least busy one comes first.
        """
        tried: set[RunnerClient] = set()
        while left := [runner for runner in self.reachable if runner not in tried]:
            best = min(left, key=self._cost)
            tried.add(best)
            yield best

    def _cost(self, runner: RunnerClient) -> tuple[bool, bool, int, float]:
        must_load = not CATALOG[self.model].is_embedded and runner.last_status.state != "loaded"
        last_load_failed = runner.last_status.reason is not None
        return last_load_failed, must_load, runner.requests, runner.last_request

    def unloaded_alternative(self, runner: RunnerClient) -> RunnerClient | None:
        """A runner without the model and with at least two fewer requests than `runner`.

        It is worth loading, so that later requests are shared.
        """
        for other in self.reachable:
            status = other.last_status
            may_load = status.state == "unloaded" and not status.reason
            if may_load and other.requests <= runner.requests - 2:
                return other
        return None

    async def unload(self) -> bool:
        """Unload the model on every reachable runner. Returns whether any had it loaded.

        Raises `Refusal` if no runner is reachable, if one is lost meanwhile, or if servers of their
        own hold the model.
        """
        if not self.reachable:
            raise RunnerLost(self.model)
        holding = [runner for runner in self.reachable if not runner.last_status.is_upstream]
        if not holding:
            raise Refusal(
                ErrorCode.NOT_LOADED,
                f"Model '{self.model}' is not loaded here: it runs on a server of its own, which "
                "alone unloads it.",
            )
        return any(await asyncio.gather(*(runner.unload() for runner in holding)))

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
