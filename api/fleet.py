"""The runners as the gateway sees them: pick, call, unload, who must make room."""

import asyncio
from collections.abc import Awaitable, Mapping
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit

import aiohttp
from bentoml.exceptions import BentoMLException

from api.room import Room
from runners.catalog import CATALOG, EMBEDDED, GUIDE_DEFAULT, Entry
from runners.messages import Answer, Failure, Refusal, Reply, Request, Status, Stream, Why
from settings import Settings

T = TypeVar("T")

STATUS_TIMEOUT = 0.03
"""Seconds; a runner too busy to answer by then is shown as it was last seen."""
RESTART_SECONDS = 5
MAX_REPLY_BYTES = 64 * 2**20
DISCONNECTED = (aiohttp.ClientError, ConnectionError)


class Fleet:
    def __init__(self, runners: Mapping[str, Any], settings: Settings, has_gpu: bool) -> None:
        self.runners = runners
        self.default = settings.default_model or (GUIDE_DEFAULT if has_gpu else EMBEDDED)
        self._seen: dict[str, Status] = {}
        self._looks: dict[str, asyncio.Task[None]] = {}
        self._room = Room(self._true_statuses, self._load, self.unload, settings.max_loaded)

    def pick(self, model: str | None, asked: Mapping[str, Any] | None = None) -> Entry:
        """The entry of `model`, or of the default one.

        Raises `Refusal`: UNKNOWN_MODEL, BAD_PARAMETER where it has none of the options `asked`,
        UNAVAILABLE where its runner is not started here.
        """
        entry = self._known(model or self.default)
        for option in asked or {}:
            if option not in entry.options:
                raise Refusal(
                    Why.BAD_PARAMETER, f"Model '{entry.id}' does not take the parameter '{option}'."
                )
        self._started(entry.id)
        return entry

    async def ask(self, model: str, request: Request) -> Answer:
        """Raises `Refusal`. Cancelling it stops the work."""
        await self._ensure_loaded(model)
        reply = await self._call(model, self.runners[model].to_async.answer(request=request))
        return _outcome(reply)

    async def stream(self, model: str, request: Request) -> Stream:
        """Pieces, the answer last. Raises `Refusal`. Closing it stops the work.

        Past BentoML's client, which leaves the connection of a stream open when its reader goes.
        """
        await self._ensure_loaded(model)
        try:
            async with (
                self._session(model) as session,
                session.post(
                    "/stream",
                    data=b'{"request": %b}' % request.model_dump_json().encode(),
                    headers={"Content-Type": "application/json"},
                    raise_for_status=True,
                ) as response,
            ):
                async for line in response.content:
                    outcome = _outcome(Reply.model_validate_json(line))
                    yield outcome
                    if isinstance(outcome, Answer):
                        return
        except aiohttp.ClientResponseError as error:
            raise _failed(model) from error
        except DISCONNECTED as error:
            raise _restarting(model) from error
        raise _restarting(model)  # it ended without its answer

    def _session(self, model: str) -> aiohttp.ClientSession:
        url = urlsplit(self.runners[model].to_async.url)
        return aiohttp.ClientSession(
            "http://runner" if url.scheme == "file" else f"http://{url.netloc}",
            connector=aiohttp.UnixConnector(unquote(url.path)) if url.scheme == "file" else None,
            timeout=aiohttp.ClientTimeout(total=None),
            read_bufsize=MAX_REPLY_BYTES,
        )

    async def load(self, model: str) -> None:
        """Raises `Refusal`."""
        await self._room.load(self.pick(model).id)

    async def unload(self, model: str) -> None:
        """Raises `Refusal`: UNKNOWN_MODEL, or NOT_LOADED."""
        entry = self._known(model)
        if entry.id not in self.runners or not await self._call(
            model, self.runners[model].to_async.unload()
        ):
            raise Refusal(Why.NOT_LOADED, f"Model '{model}' is not loaded.")

    async def statuses(self) -> dict[str, Status]:
        """Of every catalog entry, in the catalog's order."""
        states = await asyncio.gather(*(self._status(model) for model in CATALOG))
        return dict(zip(CATALOG, states, strict=True))

    async def _ensure_loaded(self, model: str) -> None:
        """A vision-language model is loaded by the gateway's leave, as others may have to go."""
        if CATALOG[model].repository and (await self._true_status(model)).state == "unloaded":
            await self._room.load(model)

    async def _load(self, model: str) -> None:
        _outcome(await self._call(model, self.runners[model].to_async.load()))

    async def _true_statuses(self) -> dict[str, Status]:
        async def standing(model: str) -> Status:
            try:
                return await self._true_status(model)
            except Refusal as refusal:
                return Status(state="unavailable", reason=refusal.failure.detail)

        states = await asyncio.gather(*map(standing, self.runners))
        return dict(zip(self.runners, states, strict=True))

    async def _true_status(self, model: str) -> Status:
        """Raises `Refusal` where the runner is lost."""
        self._seen[model] = await self._call(model, self.runners[model].to_async.status())
        return self._seen[model]

    async def _status(self, model: str) -> Status:
        """What is known without waiting for a runner that is busy, or lost."""
        if model not in self.runners:
            return Status(state="unavailable", reason=_not_started(model))
        look = self._looks.get(model)
        if look is None or look.done():
            look = self._looks[model] = asyncio.create_task(self._look(model))
        await asyncio.wait({look}, timeout=STATUS_TIMEOUT)
        if look.done():
            look.result()
        return self._seen.get(model, Status(state="unloaded"))

    async def _look(self, model: str) -> None:
        """Goes on when nobody waits for it any more, so that the next to ask finds what it saw."""
        try:
            await self._true_status(model)
        except Refusal as refusal:
            self._seen[model] = Status(state="unavailable", reason=refusal.failure.detail)

    async def _call(self, model: str, call: Awaitable[T]) -> T:
        try:
            return await call
        except DISCONNECTED as error:
            raise _restarting(model) from error
        except BentoMLException as error:
            raise _failed(model) from error

    def _known(self, model: str) -> Entry:
        if model not in CATALOG:
            raise Refusal(Why.UNKNOWN_MODEL, f"Failed to load model: Model '{model}' not found")
        return CATALOG[model]

    def _started(self, model: str) -> None:
        if model not in self.runners:
            raise Refusal(Why.UNAVAILABLE, _not_started(model), retry_after=3600)


def _outcome(reply: Reply) -> Any:
    if isinstance(reply.outcome, Failure):
        failure = reply.outcome
        raise Refusal(failure.why, failure.detail, failure.retry_after)
    return reply.outcome


def _restarting(model: str) -> Refusal:
    return Refusal(
        Why.UNAVAILABLE,
        f"The runner of model '{model}' was lost and is restarting; try again.",
        retry_after=RESTART_SECONDS,
    )


def _failed(model: str) -> Refusal:
    return Refusal(Why.FAULT, f"Model '{model}' failed on this request; the log says why.")


def _not_started(model: str) -> str:
    return f"Model '{model}' is not served here: CHATVLM_MODELS leaves it out."
