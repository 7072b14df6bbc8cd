"""The embedded reader: Tesseract behind the interface of an engine, a page at a time a process."""

import asyncio
import os
import re
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar, cast

import langcodes
import psutil  # type: ignore[import-untyped]

from common.catalog import Entry
from common.deadline import Deadline
from common.failures import ErrorCode, Refusal
from common.images import decode
from common.messages import Answer, Block, Line, Piece, Request, Status, Stream, Usage
from runners import malloc
from runners.reader.line_search import reply
from runners.reader.worker_registry import Member, Siblings
from settings import Settings

if TYPE_CHECKING:
    from runners.metrics import Metrics
    from runners.reader.reading import Page, Reader

T = TypeVar("T")
Check = Callable[[], None]

_DATA = ("eng", "rus", "osd")
_LANGUAGES = ("en", "ru")
_PROJECT = Path(__file__).parents[2]
_TESSDATA = ("/usr/share/tessdata", "/usr/local/share/tessdata", "/opt/homebrew/share/tessdata")
_WATCH_SECONDS = 0.1
_TOKEN = re.compile(r"\w+|[^\w\s]")
"""Of a reader without a vocabulary: a word or a mark."""


class ReaderEngine:
    """Reads pages in a thread of its own. Holds no Tesseract until the first page, or `load`."""

    def __init__(self, entry: Entry, settings: Settings) -> None:
        self._model = entry.id
        self._settings = settings
        self._name = entry.name
        folder = settings.state or _served_folder()
        self._private = None if folder else Path(tempfile.mkdtemp(prefix="chatvlm-"))
        self._siblings = Siblings((folder or cast(Path, self._private)) / entry.id)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=entry.id)
        self._reader: Reader | None = None
        self._metrics: Metrics | None = None
        self._memory_bytes = 0
        self._accepted = 0
        self._last_end = time.monotonic()
        self._watch: asyncio.Task[None] | None = None

    async def answer(self, request: Request, deadline: Deadline) -> Answer:
        """The text and lines of the page, or what those of all pages say to the last question.

        Raises `Refusal`: QUEUE_FULL at once, DEADLINE, UNAVAILABLE without trained data,
        BAD_IMAGE, BAD_PARAMETER without an image. Cancelled, the work ends before the next line; a
        page that waits never starts.
        """
        if self._accepted > self._settings.queue_size:
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
        """Raises `Refusal` (UNAVAILABLE) without trained data."""
        await self._in_thread(lambda _: self._loaded())

    async def unload(self) -> bool:
        """Free every process' Tesseract, once its page in hand is read; False where none had it."""
        found = bool(self._siblings.members())
        self._siblings.dismiss()
        with suppress(TimeoutError):
            async with asyncio.timeout(self._settings.unload_timeout):
                while self._siblings.stragglers():  # noqa: ASYNC110  # other processes
                    await asyncio.sleep(_WATCH_SECONDS / 2)
        return found

    async def status(self) -> Status:
        """Of all processes together."""
        members = self._siblings.members()
        if not members:
            idle = time.monotonic() - self._last_end
            try:
                find_tessdata(self._settings)
            except Refusal as refusal:
                reason = refusal.failure.detail
                return Status(state="unavailable", reason=reason, idle_seconds=idle)
            return Status(state="unloaded", idle_seconds=idle)
        return Status(
            state="loading" if all(one.loading for one in members) else "loaded",
            device="cpu",
            memory_bytes=sum(one.memory_bytes for one in members),
            rows=sum(one.rows for one in members),
            queued=sum(one.queued for one in members),
            idle_seconds=time.monotonic() - max(one.last_end for one in members),
        )

    async def close(self) -> None:
        if self._watch:
            self._watch.cancel()
        await asyncio.get_running_loop().run_in_executor(self._thread, self._free)
        self._thread.shutdown()
        if self._private:
            shutil.rmtree(self._private)

    async def _in_thread(self, work: Callable[[Check], T]) -> T:
        """Do it in the engine's thread, behind what waits there; `work` gets the check to call."""
        if self._watch is None:
            self._watch = asyncio.create_task(self._obey_dismissals())
        stop = threading.Event()

        def check() -> None:
            if stop.is_set():
                raise _Stopped

        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._thread, work, check)
        finally:
            stop.set()

    async def _obey_dismissals(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(_WATCH_SECONDS)
            if self._siblings.dismissed:
                await loop.run_in_executor(self._thread, self._free)

    def _report(self) -> None:
        member = self._as_member()
        self._siblings.report(member)
        if metrics := self._metrics:
            metrics.requests.set(self._accepted)
            metrics.rows.set(member.rows)
            metrics.model_bytes.set(member.memory_bytes)

    def _as_member(self) -> Member:
        rows = min(1, self._accepted)
        return Member(
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
        language = request.language if request.language in _LANGUAGES else None
        pages = [reader.read(decode(image), language, check) for image in request.images]
        return _answer(request, pages)

    def _loaded(self) -> "Reader":
        if self._siblings.dismissed:  # the pages that wait do not hold up an unload
            self._free()
        if self._reader is None:
            tessdata = find_tessdata(self._settings)
            before = psutil.Process().memory_info().rss
            self._siblings.join(self._as_member())
            try:
                os.environ["OMP_THREAD_LIMIT"] = "1"  # read when the library comes in, just below
                from runners.metrics import Metrics
                from runners.reader.reading import Reader

                self._reader = Reader(tessdata)
                self._metrics = Metrics(self._model)
            except BaseException:
                self._siblings.leave()
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
            self._metrics.unloaded()
            self._metrics = None
        self._siblings.leave()


def _served_folder() -> Path | None:
    """Of the processes that one `bentoml serve` has for children; its next start wipes it."""
    metrics = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
    return Path(metrics, f"serve-{os.getppid()}") if metrics else None


class _Stopped(Exception):
    """Ends the work in the thread; nobody waits for it any more."""


def find_tessdata(settings: Settings) -> Path:
    """The first folder that holds all the trained data; the setting, where given, is the only one.

    Raises `Refusal` (UNAVAILABLE) that says what to install.
    """
    for folder in _folders(settings):
        if all((folder / f"{name}.traineddata").is_file() for name in _DATA):
            return folder
    packages = ", ".join(f"tesseract-ocr-{name}" for name in _DATA)
    raise Refusal(
        ErrorCode.UNAVAILABLE, f"The reader's trained data is missing: install {packages}."
    )


def _folders(settings: Settings) -> Iterator[Path]:
    if settings.tessdata:
        yield settings.tessdata
        return
    if prefix := os.environ.get("TESSDATA_PREFIX"):
        yield Path(prefix)
    yield _PROJECT / ".tessdata"
    yield from sorted(Path("/usr/share/tesseract-ocr").glob("*/tessdata"), reverse=True)
    yield from map(Path, _TESSDATA)


def _answer(request: Request, pages: "Sequence[Page]") -> Answer:
    page = pages[0]
    blocks = None
    if request.options.mode == "layout":
        blocks = [_block(lines) for lines in page.blocks]
    warning = None
    if request.language not in (None, *_LANGUAGES):
        name = langcodes.Language.get(request.language).display_name()
        warning = f"There is no trained data for {name}: read as English and Russian."
    if request.task == "ocr":
        return Answer(
            text=page.text,
            image_size=page.size,
            finish_reason="stop",
            lines=page.lines,
            blocks=blocks,
            warning=warning,
        )
    said = reply(request.prompt, pages)
    whole = said.text
    if request.stop:
        whole = re.split("|".join(map(re.escape, request.stop)), whole)[0]
    text = _first_words(whole, request.max_tokens)
    return Answer(
        text=text,
        image_size=page.size,
        finish_reason="stop" if text == whole else "length",
        usage=Usage(
            prompt_tokens=_count(request.prompt), visual_tokens=0, completion_tokens=_count(text)
        ),
        lines=said.lines,
        prompt_used=True,
        warning=warning,
    )


def _block(lines: list[Line]) -> Block:
    lefts, tops, rights, bottoms = zip(*(line.box for line in lines), strict=True)
    return Block(
        category="Text",
        box=(min(lefts), min(tops), max(rights), max(bottoms)),
        text="\n".join(line.text for line in lines),
    )


def _count(text: str) -> int:
    return len(_TOKEN.findall(text))


def _first_words(text: str, most: int) -> str:
    """The text up to its `most`th token."""
    tokens = list(_TOKEN.finditer(text))
    return text if len(tokens) <= most else text[: tokens[most - 1].end()]
