"""Who must make room before a model is loaded: the least recently used idle one."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping

from runners.catalog import CATALOG
from runners.messages import Refusal, Status, Why

logger = logging.getLogger(__name__)
GIB = 2**30
RETRY_AFTER = 5


class Room:
    """Lets one model load at a time, so that each decision sees what the last one led to."""

    def __init__(
        self,
        statuses: Callable[[], Awaitable[Mapping[str, Status]]],
        load: Callable[[str], Awaitable[None]],
        unload: Callable[[str], Awaitable[None]],
        max_loaded: int | None,
    ) -> None:
        self._statuses = statuses
        self._load = load
        self._unload = unload
        self._max_loaded = max_loaded
        self._loading = asyncio.Lock()

    async def load(self, model: str) -> None:
        """Unload what must go, then load `model`.

        Raises `Refusal`: UNAVAILABLE where none of those that must go is idle, or where all of
        them together would not free enough; and what loading raises.
        """
        async with self._loading:
            while victim := self._victim(model, await self._statuses()):
                logger.info("Unloading %s to make room for %s", victim, model)
                await self._unload(victim)
            await self._load(model)

    def _victim(self, model: str, statuses: Mapping[str, Status]) -> str | None:
        mine = statuses[model]
        if mine.state != "unloaded":
            return None
        held = {
            other: status
            for other, status in statuses.items()
            if status.state in ("loaded", "loading") and CATALOG[other].repository
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
                    Why.UNAVAILABLE,
                    f"Model '{model}' needs {mine.needs_bytes / GIB:.1f} GiB of memory; "
                    f"{mine.free_bytes / GIB:.1f} GiB are free.",
                )
        idle = [
            other
            for other, status in held.items()
            if status.state == "loaded" and not status.rows and not status.queued
        ]
        if not idle:
            raise Refusal(
                Why.UNAVAILABLE,
                f"There is no room for model '{model}' while {' and '.join(held)} are busy.",
                RETRY_AFTER,
            )
        return max(idle, key=lambda other: held[other].idle_seconds)
