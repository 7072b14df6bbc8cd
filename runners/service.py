"""Makes the BentoML service of a catalog entry: a process of its own around an engine.

An idle runner has imported neither torch nor transformers: an engine imports what it needs when
it loads its model.
"""

import asyncio
import json
import logging
import os
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any, Protocol

import bentoml

from common.catalog import Entry
from common.deadline import Deadline
from common.disconnect import CancelOnDisconnect
from common.failures import Failure, Refusal
from common.messages import Answer, Piece, Reply, Request, Status, Stream
from runners.reader.engine import ReaderEngine
from runners.vlm.engine import VlmEngine
from settings import Settings

log = logging.getLogger(__name__)

# Limits on time are the engine's and the gateway's; BentoML's own would answer in its own form.
NO_TIMEOUT = 24 * 3600
# BentoML's client drops its connection, and every call on it, after 100 requests or 300 s.
KEEP_CONNECTION = {"max_requests": 10**9, "max_age": 1e9}


class Engine(Protocol):
    """One model's life. Every call may be cancelled; a cancelled request stops its work."""

    def __init__(self, entry: Entry, settings: Settings) -> None: ...

    async def answer(self, request: Request, deadline: Deadline) -> Answer:
        """Raises `Refusal`. Past the deadline it answers with what it has, if anything."""

    def stream(self, request: Request, deadline: Deadline) -> Stream:
        """Pieces as they are made, the answer last. Raises `Refusal`."""

    async def load(self) -> None:
        """Raises `Refusal` where the weights or the device are not there."""

    async def unload(self) -> bool:
        """False where nothing was loaded."""

    async def status(self) -> Status: ...

    async def close(self) -> None: ...


def start_again() -> None:
    """BentoML starts a process that died again, but not in its own images, where the whole
    container would end with it: https://github.com/bentoml/BentoML, src/bentoml/serving.py."""
    os.environ.pop("BENTOML_CONTAINERIZED", None)


def engine_of(entry: Entry) -> type[Engine]:
    return ReaderEngine if entry.is_embedded else VlmEngine


def make_runner(entry: Entry, settings: Settings, engine: type[Engine] | None = None) -> Any:
    """The BentoML service that serves `entry`, named by its id.

    engine: instead of the one that the entry is served by.
    """
    make_engine = engine or engine_of(entry)

    class Runner:
        def __init__(self) -> None:
            self.engine: Engine = make_engine(entry, settings)
            self.preloading: asyncio.Task[None] | None = None

        prepare = bentoml.on_deployment(start_again)

        @bentoml.on_startup
        async def preload(self) -> None:
            if entry.id in settings.preload:
                self.preloading = asyncio.create_task(_preload(self.engine))

        @bentoml.api
        async def answer(self, request: Request, time_limit: float) -> Reply:
            """time_limit: seconds from now."""
            try:
                return Reply(outcome=await self.engine.answer(request, Deadline(time_limit)))
            except Refusal as refusal:
                return Reply(outcome=refusal.failure)

        @bentoml.api
        async def stream(self, request: Request, time_limit: float) -> AsyncGenerator[str, None]:
            """One `Reply` a line of ASCII JSON; BentoML's client may cut or join what is sent."""
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
            return self.preloading is None or self.preloading.done()

        @bentoml.on_shutdown
        async def close(self) -> None:
            await self.engine.close()

    service: Any = bentoml.service(
        name=entry.id,
        workers=settings.reader_processes if entry.is_embedded else 1,
        traffic={"timeout": NO_TIMEOUT},
        runner_connection=KEEP_CONNECTION,
    )(Runner)
    service.add_asgi_middleware(CancelOnDisconnect)
    return service


async def _preload(engine: Engine) -> None:
    try:
        await engine.load()
    except Refusal as refusal:
        log.warning("Not preloaded: %s", refusal.failure.detail)


def _line(outcome: Piece | Answer | Failure) -> str:
    return json.dumps(Reply(outcome=outcome).model_dump(mode="json")) + "\n"
