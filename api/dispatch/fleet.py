"""The models as the gateway sees them: pick, ask, unload, how each stands."""

import asyncio
from collections.abc import Mapping
from contextlib import aclosing
from typing import Any

from api.dispatch.eviction import Room
from api.dispatch.replicas import Replicas
from api.dispatch.runner_client import LocalRunner, Runner
from common.catalog import CATALOG, EMBEDDED, GUIDE_DEFAULT, Entry
from common.deadline import Deadline
from common.failures import ErrorCode, Refusal
from common.messages import Answer, Piece, Request, Status, Stream
from settings import Settings


class Fleet:
    def __init__(self, local: Mapping[str, Any], settings: Settings, has_gpu: bool) -> None:
        """local: what `bentoml.depends` makes of the runners beside the gateway, by model id."""
        self._replicas = {
            **{model: Replicas(model, local=LocalRunner(model, local[model])) for model in local},
            **{model: Replicas(model, urls) for model, urls in settings.remote.items()},
        }
        preferred = [GUIDE_DEFAULT, EMBEDDED] if has_gpu else [EMBEDDED]
        served = [model for model in (*preferred, *self._replicas) if model in self._replicas]
        self.default = settings.default_model or [*served, EMBEDDED][0]
        self._room = Room(self._runners, settings.max_loaded)

    def open(self) -> None:
        """Find the runners, and keep an eye on them, until it is closed."""
        for replicas in self._replicas.values():
            replicas.open()

    def close(self) -> None:
        for replicas in self._replicas.values():
            replicas.close()
        self._room.close()

    @property
    def ready(self) -> bool:
        """Every runner beside the gateway has started, and some runner answers."""
        everybody = self._replicas.values()
        return any(replicas.answering for replicas in everybody) and all(
            replicas.local is None or replicas.local.started for replicas in everybody
        )

    def pick(self, model: str | None, asked: Mapping[str, Any] | None = None) -> Entry:
        """The entry of `model`, or of the default one.

        Raises `Refusal`: UNKNOWN_MODEL, BAD_PARAMETER where it has none of the options `asked`,
        UNAVAILABLE where it is not served here.
        """
        entry = _known(model or self.default)
        for option in asked or {}:
            if option not in entry.options:
                raise Refusal(
                    ErrorCode.BAD_PARAMETER,
                    f"Model '{entry.id}' does not take the parameter '{option}'.",
                )
        if entry.id not in self._replicas:
            raise Refusal(ErrorCode.UNAVAILABLE, _not_served(entry.id))
        return entry

    async def ask(self, model: str, request: Request, deadline: Deadline) -> Answer:
        """Raises `Refusal`. Cancelling it stops the work."""

        async def answer(runner: Runner) -> Answer:
            with runner.busy():
                await self._ensure_loaded(runner, deadline)
                return await runner.answer(request, deadline)

        return await self._replicas[model].first(answer)

    async def stream(self, model: str, request: Request, deadline: Deadline) -> Stream:
        """Pieces, the answer last. Raises `Refusal`. Closing it stops the work.

        Once there is a piece, no other runner can go on where one is lost.
        """

        async def stream(runner: Runner) -> Stream:
            with runner.busy():
                await self._ensure_loaded(runner, deadline)
                async with aclosing(runner.stream(request, deadline)) as outcomes:
                    async for outcome in outcomes:
                        yield outcome

        async def begin(runner: Runner) -> tuple[Piece | Answer, Stream]:
            outcomes = stream(runner)
            return await anext(outcomes), outcomes

        first, rest = await self._replicas[model].first(begin)
        async with aclosing(rest):
            yield first
            async for outcome in rest:
                yield outcome

    async def load(self, model: str) -> None:
        """On one replica; others follow when it is busy. Raises `Refusal`."""
        await self._replicas[self.pick(model).id].first(self._room.load)

    async def unload(self, model: str) -> None:
        """Raises `Refusal`: UNKNOWN_MODEL, NOT_LOADED, UNAVAILABLE where no runner answers."""
        replicas = self._replicas.get(_known(model).id)
        if replicas is None or not await replicas.unload():
            raise Refusal(ErrorCode.NOT_LOADED, f"Model '{model}' is not loaded.")

    async def statuses(self) -> dict[str, Status]:
        """Of every catalog entry, in the catalog's order."""
        states = await asyncio.gather(*map(self._status, CATALOG))
        return dict(zip(CATALOG, states, strict=True))

    @property
    def unreachable(self) -> list[str]:
        """The models that are served here, but none of whose runners answers."""
        return [model for model, replicas in self._replicas.items() if not replicas.answering]

    def remote(self, model: str) -> list[Runner] | None:
        """The replicas of a model that is served elsewhere."""
        replicas = self._replicas.get(model)
        return replicas.runners if replicas is not None and replicas.local is None else None

    async def _status(self, model: str) -> Status:
        if model not in self._replicas:
            return Status(state="unavailable", reason=_not_served(model))
        return await self._replicas[model].standing()

    def _runners(self) -> list[Runner]:
        return [runner for replicas in self._replicas.values() for runner in replicas.runners]

    async def _ensure_loaded(self, runner: Runner, deadline: Deadline) -> None:
        """A vision-language model is loaded by the gateway's leave, as others may have to go."""
        if CATALOG[runner.model].is_embedded:
            return
        if (await runner.status()).state == "unloaded":
            await self._room.load(runner, deadline)
        elif idler := self._replicas[runner.model].idler(runner):
            self._room.begin(idler)  # for the requests to come


def _known(model: str) -> Entry:
    if model not in CATALOG:
        raise Refusal(ErrorCode.UNKNOWN_MODEL, f"Failed to load model: Model '{model}' not found")
    return CATALOG[model]


def _not_served(model: str) -> str:
    return f"Model '{model}' is not served here: CHATVLM_MODELS leaves it out."
