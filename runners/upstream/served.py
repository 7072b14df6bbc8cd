"""Knows whether an upstream answers, and under which name it serves a model."""

import asyncio
import time
from collections.abc import Iterable, Sequence

from common.catalog import Entry
from common.failures import ErrorCode, Failure, Refusal
from runners.upstream.protocol import ServedModel
from runners.upstream.server import Server

FRESH_SECONDS = 2.0
"""Seconds for which what the server last said holds."""
_MOST_NAMED = 10


class Served:
    """One model on one upstream."""

    def __init__(self, entry: Entry, server: Server, name: str | None) -> None:
        """name: under which the server serves the model, if a setting says it."""
        self._entry = entry
        self._server = server
        self._name = name
        self._lock = asyncio.Lock()
        self._asked: float | None = None
        """When the server was last asked, by the monotonic clock."""
        self._found: ServedModel | None = None
        self._failure: Failure | None = None
        """Why it was not found when the server was last asked."""

    async def model(self) -> ServedModel:
        """What was found last, whether or not the server still answers. Raises as `check` does."""
        return self._found or await self.check()

    async def check(self) -> ServedModel:
        """What the server serves as this model now.

        Raises `Refusal` if the server does not answer, or serves other models only.
        """
        async with self._lock:
            if self._asked is None or time.monotonic() - self._asked > FRESH_SECONDS:
                await self._ask()
        if self._failure is not None:
            raise Refusal.of(self._failure)
        assert self._found is not None
        return self._found

    async def check_anew(self) -> None:
        """Ask the server now. Raises as `check` does."""
        self._asked = None
        await self.check()

    async def _ask(self) -> None:
        try:
            served = await self._server.models()
            self._found = find(self._entry, served, self._name)
            self._failure = None
            if self._found is None:
                self._failure = _not_served(self._entry, served, self._name)
        except Refusal as refusal:
            self._failure = refusal.failure
        self._asked = time.monotonic()


def find(entry: Entry, served: Iterable[ServedModel], name: str | None) -> ServedModel | None:
    """The one of the served models that is the entry's; None if there is none.

    name: its id, if a setting says it. Otherwise it is known by the repository, whole or its last
    part, or by the entry's id; the server's name or the last part of its folder may be so.
    """
    if name is not None:
        return next((model for model in served if model.id == name), None)
    repository = entry.repository or entry.id
    known = {entry.id.lower(), repository.lower(), _last(repository)}
    for model in served:
        names = {part for said in (model.id, model.root) if said for part in (said, _last(said))}
        if known & {one.lower() for one in names}:
            return model
    return None


def _last(path: str) -> str:
    return path.rstrip("/").rpartition("/")[2].lower()


def _not_served(entry: Entry, served: Sequence[ServedModel], name: str | None) -> Failure:
    names = [_last(model.id) for model in served]
    listed = ", ".join(f"'{one}'" for one in names[:_MOST_NAMED])
    more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    wanted = (
        f"serves no model named '{name}'" if name else f"serves no model named as {entry.name} is"
    )
    return Failure(
        code=ErrorCode.UNAVAILABLE,
        detail=f"The server for {entry.name} {wanted}, but {listed or 'none'}{more}: "
        "CHATVLM_UPSTREAM_NAMES says which one it is.",
    )
