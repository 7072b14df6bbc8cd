"""Serves requests to the embedded reader: one page at a time in each of its processes."""

import asyncio
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar, cast

import psutil  # type: ignore[import-untyped]

from common.catalog import Entry
from common.deadline import Deadline
from common.failures import ErrorCode, Refusal
from common.images import decode
from common.messages import Answer, Piece, Request, Status, Stream
from runners import malloc
from runners.reader.answers import make_answer
from runners.reader.tessdata import LANGUAGES, find_tessdata
from runners.reader.worker_registry import Worker, WorkerRegistry
from settings import Settings

if TYPE_CHECKING:
    from runners.metrics import Metrics
    from runners.reader.reading import Reader

T = TypeVar("T")
Check = Callable[[], None]
"""Called between steps of the work; raises once nobody waits for its result any more."""

_WATCH_SECONDS = 0.1
"""Seconds after which a process looks again whether it was asked to unload."""


class ReaderEngine:
    """Reads pages in a thread of its own. Tesseract is loaded by the first page, or `load`."""

    def __init__(self, entry: Entry, settings: Settings) -> None:
        self._model = entry.id
        self._settings = settings
        self._name = entry.name
        folder = settings.state or _server_folder()
        self._private = None if folder else Path(tempfile.mkdtemp(prefix="chatvlm-"))
        self._registry = WorkerRegistry((folder or cast(Path, self._private)) / entry.id)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=entry.id)
        self._reader: Reader | None = None
        self._metrics: Metrics | None = None
        self._memory_bytes = 0
        self._accepted = 0
        self._last_end = time.monotonic()
        self._watch: asyncio.Task[None] | None = None

    async def answer(self, request: Request, deadline: Deadline) -> Answer:
        """The text and lines of the page, or what all pages say to the question.

        Raises `Refusal`: QUEUE_FULL at once, DEADLINE, UNAVAILABLE without trained data,
        BAD_IMAGE, BAD_PARAMETER without an image. If the call is cancelled, the work ends before
        the next line, and a page that still waits is never begun.
        """
        waiting = max(self._accepted - 1, 0)  # one is being read
        if waiting >= self._settings.queue_size:
            raise Refusal(
                ErrorCode.QUEUE_FULL, "Too many pages wait for the reader.", retry_after=1
            )
        self._accepted += 1
        self._report()
        try:
            async with deadline.bound(
                "The page could not be read within the request's time limit."
            ):
                return await self._in_thread(lambda check: self._read(request, check))
        finally:
            self._accepted -= 1
            self._last_end = time.monotonic()
            self._report()

    async def stream(self, request: Request, deadline: Deadline) -> Stream:
        """The answer's lines, then the answer. Raises as `answer` does."""
        answer = await self.answer(request, deadline)
        for line in answer.text.splitlines(keepends=True):
            yield Piece(text=line)
        yield answer

    async def load(self) -> None:
        """Load Tesseract. Raises `Refusal` (UNAVAILABLE) without trained data."""
        await self._in_thread(lambda _: self._loaded())

    async def unload(self) -> bool:
        """Unload Tesseract in every process, after the page that it reads. False if none had it.

        Waits until it is unloaded, but at most the setting `unload_timeout`.
        """
        found = bool(self._registry.workers())
        self._registry.ask_to_unload()
        with suppress(TimeoutError):
            async with asyncio.timeout(self._settings.unload_timeout):
                while self._registry.still_loaded():  # noqa: ASYNC110  # other processes
                    await asyncio.sleep(_WATCH_SECONDS / 2)
        return found

    async def status(self) -> Status:
        """The status of all processes together."""
        workers = self._registry.workers()
        if not workers:
            idle = time.monotonic() - self._last_end
            try:
                find_tessdata(self._settings.tessdata)
            except Refusal as refusal:
                reason = refusal.failure.detail
                return Status(state="unavailable", reason=reason, idle_seconds=idle)
            return Status(state="unloaded", idle_seconds=idle)
        return Status(
            state="loading" if all(worker.loading for worker in workers) else "loaded",
            device="cpu",
            memory_bytes=sum(worker.memory_bytes for worker in workers),
            rows=sum(worker.rows for worker in workers),
            queued=sum(worker.queued for worker in workers),
            idle_seconds=time.monotonic() - max(worker.last_end for worker in workers),
        )

    async def close(self) -> None:
        if self._watch:
            self._watch.cancel()
        await asyncio.get_running_loop().run_in_executor(self._thread, self._free)
        self._thread.shutdown()
        if self._private:
            shutil.rmtree(self._private, ignore_errors=True)

    async def _in_thread(self, work: Callable[[Check], T]) -> T:
        """Do the work in the engine's thread, after what waits there. It gets its `Check`."""
        if self._watch is None:
            self._watch = asyncio.create_task(self._unload_when_asked())
        stop = threading.Event()

        def check() -> None:
            if stop.is_set():
                raise _Stopped

        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._thread, work, check)
        finally:
            stop.set()

    async def _unload_when_asked(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(_WATCH_SECONDS)
            if self._registry.asked_to_unload:
                await loop.run_in_executor(self._thread, self._free)

    def _report(self) -> None:
        worker = self._as_worker()
        self._registry.report(worker)
        if metrics := self._metrics:
            metrics.requests.set(self._accepted)
            metrics.rows.set(worker.rows)
            metrics.model_bytes.set(worker.memory_bytes)

    def _as_worker(self) -> Worker:
        rows = min(1, self._accepted)
        return Worker(
            loading=self._reader is None,
            memory_bytes=self._memory_bytes,
            rows=rows,
            queued=self._accepted - rows,
            last_end=self._last_end,
        )

    # From here on: in the engine's thread.

    def _read(self, request: Request, check: Check) -> Answer:
        reader = self._loaded()
        check()
        if not request.images:
            raise Refusal(
                ErrorCode.BAD_PARAMETER, f"{self._name} reads images: send one with the question."
            )
        language = request.language if request.language in LANGUAGES else None
        pages = [reader.read(decode(image), language, check) for image in request.images]
        return make_answer(request, pages)

    def _loaded(self) -> "Reader":
        if self._registry.asked_to_unload:  # an unload does not wait for the pages in the queue
            self._free()
        if self._reader is None:
            tessdata = find_tessdata(self._settings.tessdata)
            before = psutil.Process().memory_info().rss
            try:
                self._registry.join(self._as_worker())
            except OSError as error:
                raise Refusal(
                    ErrorCode.UNAVAILABLE,
                    "The reader's state folder cannot be made or written to: "
                    "correct CHATVLM_STATE.",
                ) from error
            try:
                # There is a process per core: with threads of its own, each would slow the others
                # down. OpenMP reads this when Tesseract is imported, on the next lines.
                os.environ["OMP_THREAD_LIMIT"] = "1"
                from runners.metrics import Metrics
                from runners.reader.reading import Reader

                self._reader = Reader(tessdata, self._settings.recognisers)
                self._metrics = Metrics(self._model)
            except BaseException:
                self._registry.leave()
                raise
            self._memory_bytes = max(0, psutil.Process().memory_info().rss - before)
            self._report()
        return self._reader

    def _free(self) -> None:
        if self._reader:
            self._reader.close()
            self._reader = None
            malloc.trim()
        if self._metrics:
            self._metrics.reset()
            self._metrics = None
        self._registry.leave()


def _server_folder() -> Path | None:
    """The folder that the reader's processes of one `bentoml serve`, their parent, share.

    It lies in the folder of that server's metrics, see `common.bentoml_workarounds`. None outside
    of a `bentoml serve`.
    """
    metrics = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
    return Path(metrics, f"reader-{os.getppid()}") if metrics else None


class _Stopped(Exception):
    """Ends work in the engine's thread for which nobody waits any more."""
