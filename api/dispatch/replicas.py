"""The runners of one model: one beside the gateway, or replicas that come and go elsewhere."""

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import TypeVar
from urllib.parse import urlsplit

from api.dispatch.runner_client import LocalRunner, Lost, Runner
from common.catalog import CATALOG
from common.failures import ErrorCode, Refusal
from common.messages import Status

logger = logging.getLogger(__name__)
T = TypeVar("T")

LOOK_UP_SECONDS = 2.0
MOST_LOSSES = 2
"""Runners that one request may be at work in when they are lost: it may be what kills them."""
ELSEWHERE = {ErrorCode.QUEUE_FULL, ErrorCode.UNAVAILABLE}
"""Refusals that another replica need not share."""
NO_SUCH_NAME = {socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)}
STATES = ("loaded", "loading", "unloaded", "unavailable")


class Replicas:
    def __init__(
        self, model: str, urls: Sequence[str] = (), local: LocalRunner | None = None
    ) -> None:
        """urls: the host name of each stands for all the addresses that it resolves to."""
        self.model = model
        self.local = local
        self._found: dict[str, list[str]] = {url: [] for url in urls}
        """URLs of one address each."""
        self._remote: dict[str, Runner] = {}
        self._watch: asyncio.Task[None] | None = None

    @property
    def runners(self) -> list[Runner]:
        return [self.local] if self.local else list(self._remote.values())

    @property
    def answering(self) -> list[Runner]:
        return [runner for runner in self.runners if runner.answers]

    def open(self) -> None:
        """Find the runners, and keep an eye on them, until it is closed."""
        if self.local:
            self.local.open()
        self._watch = asyncio.create_task(self._follow())

    def close(self) -> None:
        if self._watch is not None:
            self._watch.cancel()
        for runner in self.runners:
            runner.close()

    async def _follow(self) -> None:
        while True:
            await asyncio.gather(*map(self._look_up, self._found))
            found = {url for urls in self._found.values() for url in urls}
            for url in self._remote.keys() - found:
                self._remote.pop(url).close()
            for url in found - self._remote.keys():
                self._remote[url] = Runner(self.model, url)
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
                return  # who was there is there
            infos = []
        # A host of both families is one replica; `bentoml serve` listens on IPv4 by default.
        family = min((family for family, *_ in infos), default=None)
        form = "http://[%s]:%s" if family == socket.AF_INET6 else "http://%s:%s"
        self._found[url] = [form % at[:2] for of, *_, at in infos if of == family]

    async def first(self, attempt: Callable[[Runner], Awaitable[T]]) -> T:
        """What the attempt gives with the first runner that does not refuse it for itself alone.

        Raises `Refusal`; of several, one that tells more than that a runner was lost.
        """
        refusals: list[Refusal] = []
        losses = 0
        for runner in self._candidates():
            try:
                return await attempt(runner)
            except Refusal as refusal:
                if refusal.code not in ELSEWHERE:
                    raise
                refusals.append(refusal)
                losses += isinstance(refusal, Lost) and refusal.at_work
                if losses == MOST_LOSSES:
                    break
        told = [refusal for refusal in refusals if not isinstance(refusal, Lost)]
        raise [*told, *refusals, Lost(self.model)][0]

    def _candidates(self) -> Iterator[Runner]:
        """Each that answers, once: those that have the model first, then the least busy."""
        tried: set[Runner] = set()
        while left := [runner for runner in self.answering if runner not in tried]:
            best = min(left, key=self._cost)
            tried.add(best)
            yield best

    def _cost(self, runner: Runner) -> tuple[bool, bool, int, float]:
        must_load = not CATALOG[self.model].is_embedded and runner.seen.state != "loaded"
        return runner.seen.reason is not None, must_load, runner.calls, runner.last_call

    def idler(self, runner: Runner) -> Runner | None:
        """An unloaded one that could have taken the last request off `runner`."""
        for other in self.answering:
            seen = other.seen
            if seen.state == "unloaded" and not seen.reason and other.calls < runner.calls - 1:
                return other
        return None

    async def unload(self) -> bool:
        """Reaches every runner that answers; False where none had it loaded.

        Raises `Refusal` where none answers, or one is lost meanwhile.
        """
        if not self.answering:
            raise Lost(self.model)
        return any(await asyncio.gather(*(runner.unload() for runner in self.answering)))

    async def standing(self) -> Status:
        """Of all runners together: loaded where any is; memory and requests are sums."""
        statuses = await asyncio.gather(*(runner.standing() for runner in self.runners))
        if not statuses:
            return Status(state="unavailable", reason=Lost(self.model).failure.detail)
        held = [status.memory_bytes for status in statuses if status.memory_bytes is not None]
        best = min(statuses, key=lambda status: STATES.index(status.state))
        return best.model_copy(
            update={
                "memory_bytes": sum(held) if held else None,
                "rows": sum(status.rows for status in statuses),
                "queued": sum(status.queued for status in statuses),
            }
        )
