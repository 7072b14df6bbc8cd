"""Who must make room before a model is loaded: the least recently used idle one of its host."""

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from weakref import WeakValueDictionary

from api.dispatch.runner_client import Runner
from common.catalog import CATALOG
from common.deadline import Deadline
from common.failures import ErrorCode, Refusal
from common.messages import Status

logger = logging.getLogger(__name__)
GIB = 2**30
RETRY_AFTER = 5


class Room:
    """Lets one model at a time load on a host, so that each decision sees what the last led to."""

    def __init__(self, runners: Callable[[], Iterable[Runner]], max_loaded: int | None) -> None:
        """runners: all that there are now. max_loaded: on one host."""
        self._runners = runners
        self._max_loaded = max_loaded
        self._locks: WeakValueDictionary[str | None, asyncio.Lock] = WeakValueDictionary()
        self._loads: dict[Runner, asyncio.Task[None]] = {}
        """On each host one goes on, and the next ones wait in this order."""

    def close(self) -> None:
        for load in self._loads.values():
            load.cancel()

    async def load(self, runner: Runner, deadline: Deadline | None = None) -> None:
        """Unload what must go, then load the model of `runner`.

        deadline: until when to wait; the load goes on.

        Raises `Refusal`: LOADING where the deadline passed; UNAVAILABLE where none of those that
        must go is idle, or where all of them together would not free enough; and what loading
        raises.
        """
        load = self.begin(runner)
        if not (await asyncio.wait({load}, timeout=None if deadline is None else deadline.left))[0]:
            first = next(one for one in self._loads if one.host == runner.host)
            raise Refusal(
                ErrorCode.LOADING,
                f"Model '{runner.model}' cannot answer yet: model '{first.model}' is still being "
                f"loaded; try again.",
                RETRY_AFTER,
            )
        load.result()

    def begin(self, runner: Runner) -> asyncio.Task[None]:
        """The load of `runner`, one for all who ask. It goes on when nobody waits for it any more,
        as it does in the runner: who is next has to see the memory that it takes."""
        if runner not in self._loads:
            self._loads[runner] = asyncio.create_task(self._load(runner))
            self._loads[runner].add_done_callback(partial(self._ended, runner))
        return self._loads[runner]

    def _ended(self, runner: Runner, load: asyncio.Task[None]) -> None:
        del self._loads[runner]
        if not load.cancelled() and (error := load.exception()):
            logger.warning("%s was not loaded: %r", runner.model, error)

    async def _load(self, runner: Runner) -> None:
        async with self._locks.setdefault(runner.host, asyncio.Lock()):
            while victim := self._victim(runner, await self._statuses(runner.host)):
                logger.info("Unloading %s to make room for %s", victim.model, runner.model)
                await victim.unload()
            await runner.load()

    async def _statuses(self, host: str | None) -> dict[Runner, Status]:
        here = [runner for runner in self._runners() if runner.host == host and runner.answers]
        said = await asyncio.gather(*(one.status() for one in here), return_exceptions=True)
        return {
            one: status
            for one, status in zip(here, said, strict=True)
            if isinstance(status, Status)
        }

    def _victim(self, runner: Runner, statuses: Mapping[Runner, Status]) -> Runner | None:
        mine = statuses.get(runner)
        if mine is None or mine.state != "unloaded":
            return None
        held = {
            other: status
            for other, status in statuses.items()
            if status.state in ("loaded", "loading") and not CATALOG[other.model].is_embedded
        }
        if self._max_loaded is None or len(held) < self._max_loaded:
            if mine.needs_bytes <= mine.free_bytes:
                return None
            held = {
                other: status
                for other, status in held.items()
                if not set(mine.places).isdisjoint(status.places)
            }
            if not held:
                raise Refusal(
                    ErrorCode.UNAVAILABLE,
                    f"Model '{runner.model}' needs {mine.needs_bytes / GIB:.1f} GiB of memory; "
                    f"{mine.free_bytes / GIB:.1f} GiB are free.",
                )
        idle = [
            other
            for other, status in held.items()
            if status.state == "loaded" and not (status.rows or status.queued or other.calls)
        ]
        if not idle:
            busy = " and ".join(other.model for other in held)
            raise Refusal(
                ErrorCode.UNAVAILABLE,
                f"There is no room for model '{runner.model}' while {busy} are busy.",
                RETRY_AFTER,
            )
        return max(idle, key=lambda other: held[other].idle_seconds)
