"""Makes the BentoML service of a catalog entry: a process of its own around an engine.

An idle runner has imported neither torch nor transformers: an engine imports what it needs when
it loads its model.
"""

import asyncio
import json
import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any, Protocol

import bentoml

from common.bentoml_workarounds import KEEP_CONNECTION, NO_ACCESS_LOG, NO_TIMEOUT
from common.catalog import Entry
from common.deadline import Deadline
from common.disconnect import CancelOnDisconnect
from common.failures import Failure, Refusal
from common.logs import request_ids
from common.messages import Answer, Piece, Reply, Request, Status, Stream
from runners.reader.engine import ReaderEngine
from runners.upstream.engine import UpstreamEngine
from runners.vlm.engine import VlmEngine
from settings import Settings

logger = logging.getLogger(__name__)


class Engine(Protocol):
    """Loads one model and answers requests with it.

    Every call may be cancelled. The work for a cancelled request is stopped.
    """

    def __init__(self, entry: Entry, settings: Settings) -> None: ...

    async def answer(self, request: Request, deadline: Deadline) -> Answer:
        """The answer, or what there is of it at the deadline. Raises `Refusal`."""

    def stream(self, request: Request, deadline: Deadline) -> Stream:
        """Pieces as they are made, the answer last. Raises `Refusal`."""

    async def load(self) -> None:
        """Load the model. Raises `Refusal` if the weights or the device are not there."""

    async def unload(self) -> bool:
        """Free the model's memory. Returns False if nothing was loaded."""

    async def status(self) -> Status:
        """The state of the model and of the requests to it."""

    async def close(self) -> None:
        """Refuse the requests that are left, and stop."""


def engine_of(entry: Entry, settings: Settings) -> type[Engine]:
    """The engine that serves `entry`."""
    if entry.id in settings.upstream:
        return UpstreamEngine
    return ReaderEngine if entry.is_embedded else VlmEngine


def make_runner(entry: Entry, settings: Settings, engine: type[Engine] | None = None) -> Any:
    """Make the BentoML service that serves `entry`; its name is the entry's id.

    engine: the class of the engine, if it is not `engine_of(entry, settings)`.
    """
    make_engine = engine or engine_of(entry, settings)

    class RunnerService:
        def __init__(self) -> None:
            self.engine: Engine = make_engine(entry, settings)
            self.preloading: asyncio.Task[None] | None = None

        @bentoml.on_startup
        async def preload(self) -> None:
            if entry.id in settings.preload:
                self.preloading = asyncio.create_task(_preload(self.engine))

        @bentoml.api
        async def answer(self, request: Request, time_limit: float, request_id: str = "") -> Reply:
            """Answer a request, within `time_limit` seconds from now. request_id: for the log."""
            request_ids.current.set(request_id)
            try:
                return Reply(outcome=await self.engine.answer(request, Deadline(time_limit)))
            except Refusal as refusal:
                return Reply(outcome=refusal.failure)

        @bentoml.api
        async def stream(
            self, request: Request, time_limit: float, request_id: str = ""
        ) -> AsyncGenerator[str, None]:
            """Answer a request, within `time_limit` seconds from now, in pieces.

            They are lines of ASCII JSON, a `Reply` each: BentoML's client may split or join what is
            sent.
            """
            request_ids.current.set(request_id)
            try:
                async with aclosing(self.engine.stream(request, Deadline(time_limit))) as pieces:
                    async for piece in pieces:
                        yield _line(piece)
            except Refusal as refusal:
                yield _line(refusal.failure)

        @bentoml.api
        async def load(self) -> Reply:
            try:
                await self.engine.load()
            except Refusal as refusal:
                return Reply(outcome=refusal.failure)
            return Reply(outcome=await self.engine.status())

        @bentoml.api
        async def unload(self) -> bool:
            return await self.engine.unload()

        @bentoml.api
        async def status(self) -> Status:
            return await self.engine.status()

        async def __is_ready__(self) -> bool:
            if entry.id in settings.upstream:
                return (await self.engine.status()).state == "loaded"
            return self.preloading is None or self.preloading.done()

        @bentoml.on_shutdown
        async def close(self) -> None:
            await self.engine.close()

    service: Any = bentoml.service(
        name=entry.id,
        traffic={"timeout": NO_TIMEOUT},
        logging=NO_ACCESS_LOG,
        runner_connection=KEEP_CONNECTION,
    )(RunnerService)
    service.add_asgi_middleware(CancelOnDisconnect)
    return service


async def _preload(engine: Engine) -> None:
    try:
        await engine.load()
    except Refusal as refusal:
        logger.warning("Not preloaded: %s", refusal.failure.detail)


def _line(outcome: Piece | Answer | Failure) -> str:
    return json.dumps(Reply(outcome=outcome).model_dump(mode="json")) + "\n"
