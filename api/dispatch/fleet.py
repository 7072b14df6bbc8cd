"""All models that the gateway serves: picks, asks, loads and unloads one, lists their statuses."""

import asyncio
from collections.abc import Collection, Mapping
from contextlib import aclosing
from dataclasses import replace
from typing import Any

from api.dispatch.loader import Loader
from api.dispatch.replicas import Replicas
from api.dispatch.runner_client import LocalRunnerClient, RunnerClient
from api.request_record import current_record
from api.streams import wait_for_first
from common.catalog import CATALOG, DEFAULT_ON_CPU, DEFAULT_ON_GPU, Entry, current_id
from common.deadline import Deadline
from common.failures import ErrorCode, Refusal
from common.messages import Answer, Request, Status, Stream
from settings import Settings


class Fleet:
    """The replicas of every model, beside the gateway and elsewhere."""

    def __init__(self, local: Mapping[str, Any], settings: Settings, has_gpu: bool) -> None:
        """local: what `bentoml.depends` makes of each runner beside the gateway, by model id."""
        self._replicas = {
            **{
                model: Replicas(model, local=LocalRunnerClient(model, local[model]))
                for model in local
            },
            **{model: Replicas(model, urls) for model, urls in settings.remote.items()},
        }
        preferred = [DEFAULT_ON_GPU, DEFAULT_ON_CPU] if has_gpu else [DEFAULT_ON_CPU]
        served = [model for model in (*preferred, *self._replicas) if model in self._replicas]
        self.default = settings.default_model or [*served, DEFAULT_ON_CPU][0]
        self._loader = Loader(self._runners, settings.max_loaded)

    def open(self) -> None:
        """Find the runners and watch over them until the fleet is closed."""
        for replicas in self._replicas.values():
            replicas.open()

    def close(self) -> None:
        for replicas in self._replicas.values():
            replicas.close()
        self._loader.close()

    @property
    def ready(self) -> bool:
        """Whether every runner beside the gateway has started, and any runner is reachable."""
        return any(replicas.reachable for replicas in self._replicas.values()) and all(
            replicas.local is None or replicas.local.started for replicas in self._replicas.values()
        )

    def pick(self, model: str | None, options: Collection[str] = ()) -> Entry:
        """The entry of `model`, or of the default one, with the id that was asked for.

        options: names of the options that the request uses.

        Raises `Refusal`: UNKNOWN_MODEL, BAD_PARAMETER if the model lacks an option,
        UNAVAILABLE if it is not served here.
        """
        entry = _entry(model or self.default)
        for option in sorted(options):
            if option not in entry.options:
                raise Refusal(
                    ErrorCode.BAD_PARAMETER,
                    f"Model '{entry.id}' does not take the parameter '{option}'.",
                )
        current_record().model = entry.id
        if current_id(entry.id) not in self._replicas:
            raise Refusal(ErrorCode.UNAVAILABLE, _not_served(entry.id))
        return entry

    async def ask(self, model: str, request: Request, deadline: Deadline) -> Answer:
        """The model's answer. Raises `Refusal`. Cancelling the call stops the work."""

        async def answer(runner: RunnerClient) -> Answer:
            with runner.track_request():
                await self._ensure_loaded(runner, deadline)
                return await runner.answer(request, deadline)

        answered = await self._replicas[current_id(model)].try_each(answer)
        _note(request, answered)
        return answered

    async def stream(self, model: str, request: Request, deadline: Deadline) -> Stream:
        """Pieces, then the whole answer. Raises `Refusal`. Closing the stream stops the work.

        If a runner is lost before its first piece, another is tried; afterwards none.
        """

        async def stream(runner: RunnerClient) -> Stream:
            with runner.track_request():
                await self._ensure_loaded(runner, deadline)
                async with aclosing(runner.stream(request, deadline)) as outcomes:
                    async for outcome in outcomes:
                        yield outcome

        async def begin(runner: RunnerClient) -> Stream:
            return await wait_for_first(stream(runner))

        async with aclosing(await self._replicas[current_id(model)].try_each(begin)) as outcomes:
            async for outcome in outcomes:
                if isinstance(outcome, Answer):
                    _note(request, outcome)
                yield outcome

    async def load(self, model: str) -> bool:
        """Load the model on one replica; others follow when it is busy. Raises `Refusal`.

        Returns False if a server of its own holds the model, so that nothing was loaded.
        """

        async def load(runner: RunnerClient) -> bool:
            await self._loader.load(runner)
            return not runner.last_status.is_upstream

        return await self._replicas[current_id(self.pick(model).id)].try_each(load)

    async def unload(self, model: str) -> None:
        """Unload the model on all its replicas.

        Raises `Refusal`: UNKNOWN_MODEL, NOT_LOADED, UNAVAILABLE if no runner is reachable.
        """
        replicas = self._replicas.get(current_id(_entry(model).id))
        if replicas is None or not await replicas.unload():
            raise Refusal(ErrorCode.NOT_LOADED, f"Model '{model}' is not loaded.")

    async def statuses(self) -> dict[str, Status]:
        """The status of every catalog entry, in the catalog's order."""
        statuses = await asyncio.gather(*map(self._status, CATALOG))
        return dict(zip(CATALOG, statuses, strict=True))

    @property
    def unreachable(self) -> list[str]:
        """The models that are served here, but of which no runner, or no upstream, answers."""
        return [model for model, replicas in self._replicas.items() if not replicas.answering]

    def remote_statuses(self, model: str) -> dict[str, Status] | None:
        """The last status of each replica, by URL; None for a model that is not remote."""
        replicas = self._replicas.get(model)
        if replicas is None or replicas.local is not None:
            return None
        return {runner.url: runner.last_status for runner in replicas.runners}

    async def _status(self, model: str) -> Status:
        if model not in self._replicas:
            return Status(state="unavailable", reason=_not_served(model))
        return await self._replicas[model].cached_status()

    def _runners(self) -> list[RunnerClient]:
        return [runner for replicas in self._replicas.values() for runner in replicas.runners]

    async def _ensure_loaded(self, runner: RunnerClient, deadline: Deadline) -> None:
        """Load a vision-language model first, since others may have to be unloaded for it.

        The embedded reader loads itself.
        """
        if CATALOG[runner.model].is_embedded:
            return
        if (await runner.status()).state == "unloaded":
            await self._loader.load(runner, deadline)
        elif other := self._replicas[runner.model].unloaded_alternative(runner):
            self._loader.start(other)  # for the requests to come


def _entry(model: str) -> Entry:
    """The entry of a model, with the id that was asked for, as answers and messages name it."""
    entry = CATALOG.get(current_id(model))
    if entry is None:  # worded as docs/rest_api_guide.md words it for every route
        raise Refusal(ErrorCode.UNKNOWN_MODEL, f"Failed to load model: Model '{model}' not found")
    return replace(entry, id=model)


def _not_served(model: str) -> str:
    return f"Model '{model}' is not served here: CHATVLM_MODELS leaves it out."


def _note(request: Request, answer: Answer) -> None:
    """Note for the log what the request took."""
    record = current_record()
    record.pages += len(request.images)
    record.tokens += answer.usage.completion_tokens if answer.usage else 0
