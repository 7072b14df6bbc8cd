"""Loads models: one at a time on each host, after others were unloaded for it."""

import asyncio
import logging
from collections.abc import Callable, Iterable
from functools import partial

from api.dispatch.runner_client import RunnerClient
from api.dispatch.unloading import RETRY_AFTER, Statuses, next_to_unload
from common.deadline import Deadline
from common.failures import ErrorCode, Refusal
from common.messages import Status

logger = logging.getLogger(__name__)


class Loader:
    """Lets one model at a time load on a host, so that the next one sees the memory it takes."""

    def __init__(
        self, runners: Callable[[], Iterable[RunnerClient]], max_loaded: int | None
    ) -> None:
        """runners: returns all runners that there are now. max_loaded: most models of one host."""
        self._runners = runners
        self._max_loaded = max_loaded
        self._locks: dict[str | None, asyncio.Lock] = {}
        """One for each host; held while a model is loaded there."""
        self._loads: dict[RunnerClient, asyncio.Task[None]] = {}
        """The loads that have not ended, in the order in which they were started. On each host the
        first one runs, and the others wait for it."""

    def close(self) -> None:
        for load in self._loads.values():
            load.cancel()

    async def load(self, runner: RunnerClient, deadline: Deadline | None = None) -> None:
        """Unload what must be unloaded, then load the model of `runner`.

        deadline: until when to wait; the load goes on afterwards.

        Raises `Refusal`: LOADING if the deadline passed, and what `next_to_unload` and the runner
        raise.
        """
        load = self.start(runner)
        await asyncio.wait({load}, timeout=None if deadline is None else deadline.left)
        if not load.done():
            raise Refusal(
                ErrorCode.LOADING,
                f"Model '{runner.model}' cannot answer yet: model '{self._loading_on(runner.host)}'"
                " is still being loaded; try again.",
                RETRY_AFTER,
            )
        load.result()

    def start(self, runner: RunnerClient) -> asyncio.Task[None]:
        """The load of `runner`, which all callers share.

        It goes on when nobody waits for it any more, as it does in the runner.
        """
        if runner not in self._loads:
            self._loads[runner] = asyncio.create_task(self._load(runner))
            self._loads[runner].add_done_callback(partial(self._end, runner))
        return self._loads[runner]

    def _end(self, runner: RunnerClient, load: asyncio.Task[None]) -> None:
        del self._loads[runner]
        if not load.cancelled() and (error := load.exception()):
            logger.warning("%s was not loaded: %r", runner.model, error)

    def _loading_on(self, host: str | None) -> str:
        """The model that is being loaded on this host; there has to be one."""
        return next(runner.model for runner in self._loads if runner.host == host)

    async def _load(self, runner: RunnerClient) -> None:
        async with self._locks.setdefault(runner.host, asyncio.Lock()):
            while other := next_to_unload(
                runner, await self._statuses(runner.host), self._max_loaded
            ):
                logger.info("Unloading %s to make room for %s", other.model, runner.model)
                await other.unload()
            await runner.load()

    async def _statuses(self, host: str | None) -> Statuses:
        """The statuses of the host's runners, without those that do not report one."""
        here = [runner for runner in self._runners() if runner.host == host and runner.reachable]
        reports = await asyncio.gather(*(one.status() for one in here), return_exceptions=True)
        return {
            runner: report
            for runner, report in zip(here, reports, strict=True)
            if isinstance(report, Status)
        }
