"""Serves requests to the embedded reader: each page is read in one of several processes."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from common.catalog import Entry
from common.deadline import Deadline
from common.failures import ErrorCode, Refusal
from common.messages import Answer, Piece, Request, Status, Stream
from runners.process_pool.pool import ProcessPool
from runners.process_pool.worker import WorkerDied
from runners.reader import large_images, page_worker
from runners.reader.answers import make_answer
from runners.reader.large_images import ManageableImage
from runners.reader.page_layers import page_of_layer
from runners.reader.read_page import ReadPage, UnreadPage
from runners.reader.tessdata import LANGUAGES, find_tessdata
from settings import Settings

if TYPE_CHECKING:
    from runners.metrics import Metrics


class ReaderEngine:
    """Reads pages in processes that start with the first page, or with `load`."""

    def __init__(self, entry: Entry, settings: Settings) -> None:
        self._model = entry.id
        self._name = entry.name
        self._settings = settings
        self._pool: ProcessPool[UnreadPage, ReadPage] = ProcessPool(
            partial(page_worker.load, settings), settings.reader_processes
        )
        self._decoding: ProcessPool[bytes, ManageableImage] = ProcessPool(large_images.load, 1)
        self._metrics: Metrics | None = None
        self._requests = 0
        """Requests taken and not yet answered."""
        self._pages = 0
        """Their pages that are not read yet."""
        self._last_end = time.monotonic()

    async def answer(self, request: Request, deadline: Deadline) -> Answer:
        """The text and lines of the page, or what all pages say to the question.

        Raises `Refusal`: QUEUE_FULL at once, DEADLINE, UNAVAILABLE without trained data,
        BAD_IMAGE, BAD_PARAMETER without an image, FAULT if the page ended two processes. If the
        call is cancelled, a page that still waits is never begun.
        """
        if self._waiting >= self._settings.queue_size:
            raise Refusal(
                ErrorCode.QUEUE_FULL, "Too many pages wait for the reader.", retry_after=1
            )
        if not request.images:
            raise Refusal(
                ErrorCode.BAD_PARAMETER, f"{self._name} reads images: send one with the question."
            )
        if request.toolbox is not None:
            raise Refusal(
                ErrorCode.BAD_PARAMETER,
                f"{self._name} calls no functions: leave out 'tools', or ask a vision-language "
                "model.",
            )
        if request.constraint is not None and request.constraint.kind != "json":
            raise Refusal(
                ErrorCode.BAD_PARAMETER,
                f"{self._name} fills in JSON schemas only: ask a vision-language model.",
            )
        find_tessdata(self._settings.tessdata)  # before a process is started for nothing
        language = request.language if request.language in LANGUAGES else None
        self._requests += 1
        try:
            async with deadline.bound(
                "The page could not be read within the request's time limit."
            ):
                pages = await self._pages_of(request, language)
                warnings = dict.fromkeys(warning for page in pages for warning in page.warnings)
                answer = await asyncio.to_thread(make_answer, request, pages)
                return answer.with_warnings(list(warnings))
        finally:
            self._requests -= 1
            self._last_end = time.monotonic()
            self._report()

    async def stream(self, request: Request, deadline: Deadline) -> Stream:
        """The answer's lines, then the answer. Raises as `answer` does."""
        answer = await self.answer(request, deadline)
        for line in answer.text.splitlines(keepends=True):
            yield Piece(text=line)
        yield answer

    async def load(self) -> None:
        """Start all processes. Raises `Refusal` (UNAVAILABLE) without trained data."""
        find_tessdata(self._settings.tessdata)
        await self._pool.start_all()
        self._report()

    async def unload(self) -> bool:
        """End every process, after the page that it reads. False if there was none.

        Waits until they have ended, but at most the setting `unload_timeout`.
        """
        timeout = self._settings.unload_timeout
        found = await asyncio.gather(self._pool.retire(timeout), self._decoding.retire(timeout))
        if any(found):
            self._report()
        return any(found)

    async def status(self) -> Status:
        """The status of all processes together."""
        workers = self._pool.workers
        idle = 0.0 if self._requests else time.monotonic() - self._last_end
        if not workers and not self._pages:
            try:
                find_tessdata(self._settings.tessdata)
            except Refusal as refusal:
                reason = refusal.failure.detail
                return Status(state="unavailable", reason=reason, idle_seconds=idle)
            return Status(state="unloaded", idle_seconds=idle)
        return Status(
            state="loaded" if any(worker.is_ready for worker in workers) else "loading",
            device="cpu",
            memory_bytes=self._memory_bytes,
            rows=self._pages - self._waiting,
            queued=self._waiting,
            idle_seconds=idle,
        )

    async def close(self) -> None:
        await asyncio.gather(self._pool.close(), self._decoding.close())

    @property
    def _waiting(self) -> int:
        """Number of pages that wait for a process."""
        return max(self._pages - self._settings.reader_processes, 0)

    @property
    def _memory_bytes(self) -> int:
        return sum(worker.memory_bytes for worker in self._pool.workers)

    async def _pages_of(self, request: Request, language: str | None) -> list[ReadPage]:
        """The pages of the request's images, of which those without a text layer are read."""
        layers = [page_of_layer(image) for image in request.shown]
        unread = [
            UnreadPage(image.data, language)
            for image, layer in zip(request.shown, layers, strict=True)
            if layer is None
        ]
        read = iter(await self._read_all(unread))
        return [layer or next(read) for layer in layers]

    async def _read_all(self, pages: Sequence[UnreadPage]) -> list[ReadPage]:
        """The pages, read side by side. If one cannot be read, the others are given up."""
        try:
            async with asyncio.TaskGroup() as group:
                # Before anything is awaited: the next request is to find them in the queue.
                self._pages += len(pages)
                reading = [group.create_task(self._read(page)) for page in pages]
                for task in reading:
                    task.add_done_callback(self._count_read)
                self._report()
        except ExceptionGroup as failures:
            raise failures.exceptions[0] from None
        return [task.result() for task in reading]

    def _count_read(self, _: object) -> None:
        self._pages -= 1

    async def _read(self, page: UnreadPage) -> ReadPage:
        try:
            if not await asyncio.to_thread(large_images.is_large, page.image):
                return await self._pool.run(page)
            image = await self._manageable(page.image)
            read = await self._pool.run(replace(page, image=image.data))
            return replace(read.enlarged(image.size), warnings=image.warnings + read.warnings)
        except WorkerDied as death:
            raise Refusal(
                ErrorCode.FAULT,
                "The page could not be read: two processes ended while they read it.",
            ) from death

    async def _manageable(self, image: bytes) -> ManageableImage:
        """The large image, made so that it can be read. Its process ends, for it was large, too."""
        try:
            return await self._decoding.run(image)
        finally:
            await self._decoding.retire(0)

    def _report(self) -> None:
        if self._metrics is None:
            from runners.metrics import Metrics

            self._metrics = Metrics(self._model)
        self._metrics.requests.set(self._requests)
        self._metrics.rows.set(self._pages - self._waiting)
        self._metrics.model_bytes.set(self._memory_bytes)
