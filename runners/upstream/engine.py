"""Serves requests to a model that an upstream holds.

What decodes images is imported with the first request.
"""

import asyncio
import os
import time
from collections.abc import AsyncGenerator
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from typing import TYPE_CHECKING, cast

from common.catalog import Entry
from common.deadline import Deadline
from common.failures import ErrorCode, Refusal
from common.messages import Answer, Piece, Request, Status, Stream
from runners.upstream.conversation import check_known
from runners.upstream.families import FAMILIES
from runners.upstream.protocol import Chunk
from runners.upstream.refusals import NotKnown, TooLong
from runners.upstream.served import Served
from runners.upstream.server import Server
from settings import Settings

if TYPE_CHECKING:
    from runners.metrics import Metrics
    from runners.upstream.growing_answer import GrowingAnswer
    from runners.upstream.prepared import Prepared
    from runners.vlm.request_images import ImageMemory

_MOST_ENCODERS = 8
_TOO_LATE = "The request could not be answered within its time limit."


class UpstreamEngine:
    """Asks one upstream for the answers of one model. All calls come from one event loop."""

    def __init__(self, entry: Entry, settings: Settings) -> None:
        assert entry.family is not None
        self._entry = entry
        self._family = FAMILIES[entry.family]
        allowed = settings.max_pixels_of(entry, on_gpu=True)
        self._max_pixels = min(allowed, self._family.max_pixels or allowed)
        self._server = Server(
            entry.name, settings.upstream[entry.id], settings.upstream_keys.get(entry.id)
        )
        self._served = Served(entry, self._server, settings.upstream_names.get(entry.id))
        threads = min(os.cpu_count() or 1, _MOST_ENCODERS)
        self._encoders = ThreadPoolExecutor(threads, "encoder")
        self._memory: ImageMemory | None = None
        self._metrics: Metrics | None = None
        self._requests = 0
        """Requests taken and not yet answered."""
        self._last_end = time.monotonic()

    async def answer(self, request: Request, deadline: Deadline) -> Answer:
        """Answer a request. Raises `Refusal`. Cancelling it closes the connection."""
        async with aclosing(self.stream(request, deadline)) as items:
            return cast(Answer, [item async for item in items][-1])

    async def stream(self, request: Request, deadline: Deadline) -> Stream:
        """Make pieces of the text, then the answer. Closing it closes the connection.

        Raises `Refusal`.
        """
        outcome = "failed"
        self._count(1)
        try:
            async with aclosing(self._stream(request, deadline)) as items:
                async for item in items:
                    if isinstance(item, Answer):
                        outcome = item.finish_reason or outcome
                        self._count_tokens(item)
                    yield item
        except (asyncio.CancelledError, GeneratorExit):
            outcome = "cancelled" if outcome == "failed" else outcome
            raise
        finally:
            self._count(-1)
            if self._metrics is not None:
                self._metrics.count_ended(outcome)

    async def load(self) -> None:
        """Nothing is loaded here. Raises `Refusal` if the upstream does not serve the model."""
        await self._served.check()

    async def unload(self) -> bool:
        """The upstream alone unloads its model. Returns False."""
        return False

    async def status(self) -> Status:
        """Whether the upstream serves the model, and how many requests it has from here."""
        idle = 0.0 if self._requests else time.monotonic() - self._last_end
        status = Status(
            state="loaded",
            device="upstream",
            rows=self._requests,
            idle_seconds=idle,
            is_upstream=True,
        )
        try:
            await self._served.check()
        except Refusal as refusal:
            update = {"state": "unavailable", "reason": refusal.failure.detail}
            return status.model_copy(update=update)
        return status

    async def close(self) -> None:
        self._encoders.shutdown(wait=False, cancel_futures=True)

    async def _stream(self, request: Request, deadline: Deadline) -> Stream:
        from runners.upstream.growing_answer import GrowingAnswer

        started = time.monotonic()
        check_known(self._entry.name, request)
        growing = GrowingAnswer(self._entry, self._family, request)
        async with deadline.bound(_TOO_LATE):
            prepared = await self._prepare(request)
        if prepared.is_blank:
            growing.reason = "stop"
        else:
            async with aclosing(self._chunks(prepared, deadline)) as chunks:
                has_text = False
                while (chunk := await _next(chunks, growing, deadline)) is not None:
                    if piece := growing.add(chunk):
                        if not has_text and self._metrics is not None:
                            self._metrics.first_token_seconds.observe(time.monotonic() - started)
                        has_text = True
                        yield Piece(text=piece)
                    if growing.reason == "repetition":
                        break
            if piece := growing.rest():
                yield Piece(text=piece)
        yield growing.answer(prepared.pictures).with_warnings(prepared.warnings)

    async def _prepare(self, request: Request) -> "Prepared":
        from runners.upstream.prepared import prepare
        from runners.vlm.request_images import ImageMemory

        self._memory = self._memory or ImageMemory()
        served = await self._served.model()
        return await asyncio.get_running_loop().run_in_executor(
            self._encoders,
            prepare,
            *(request, self._entry, self._family, served, self._max_pixels, self._memory),
        )

    async def _chunks(
        self, prepared: "Prepared", deadline: Deadline
    ) -> AsyncGenerator[Chunk, None]:
        """What the upstream answers.

        If the longest answer does not fit beside the prompt, the upstream is asked again for as
        long a one as fits.
        """
        body = prepared.body
        has_begun = False
        while True:
            try:
                async with aclosing(self._server.chat(body)) as chunks:
                    async for chunk in chunks:
                        has_begun = True
                        yield chunk
                return
            except TooLong:
                if has_begun or "max_tokens" not in body:
                    raise
                body = {name: value for name, value in body.items() if name != "max_tokens"}
            except NotKnown:
                await self._served.check_anew()
                raise

    def _count(self, change: int) -> None:
        if self._metrics is None:
            from runners.metrics import Metrics

            self._metrics = Metrics(self._entry.id)
        self._requests += change
        self._last_end = time.monotonic()
        self._metrics.requests.set(self._requests)
        self._metrics.rows.set(self._requests)

    def _count_tokens(self, answer: Answer) -> None:
        if self._metrics is not None and answer.usage is not None:
            self._metrics.tokens.inc(answer.usage.completion_tokens)


async def _next(
    chunks: AsyncGenerator[Chunk, None], growing: "GrowingAnswer", deadline: Deadline
) -> Chunk | None:
    """The next chunk; None if there are no more, or if the deadline passed in mid-answer.

    Raises `Refusal`.
    """
    try:
        async with deadline.bound(_TOO_LATE):
            return await anext(chunks, None)
    except Refusal as refusal:
        if refusal.code is not ErrorCode.DEADLINE:
            raise
        growing.end_at_deadline(refusal)
        return None
