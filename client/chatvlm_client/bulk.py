"""Many files read side by side, each text written as soon as it is there."""

import asyncio
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from chatvlm_client.answers import Ocr, Page, PageError
from chatvlm_client.calls import OcrOptions
from chatvlm_client.clients import AsyncChatVLMClient
from chatvlm_client.errors import ChatVLMError

SUFFIXES = {".pdf", ".tif", ".tiff", ".jpg", ".jpeg", ".png", ".bmp", ".webp"}
"""Of the files that are read where a folder is given."""


class UsageError(Exception):
    """Its text is a sentence for who typed the command."""


@dataclass(frozen=True)
class Job:
    source: Path
    output: Path | None = None

    @property
    def incomplete(self) -> Path | None:
        """Where the text goes that lacks a page, so that it is not taken for done."""
        return self.output and self.output.with_suffix(".incomplete.txt")

    def is_done(self) -> bool:
        """Whether its text is there, and no older than the file."""
        try:
            return (
                self.output is not None
                and self.output.stat().st_mtime >= self.source.stat().st_mtime
            )
        except OSError:
            return False


@dataclass(frozen=True)
class Outcome:
    job: Job
    status: Literal["read", "skipped", "failed"]
    seconds: float = 0.0
    answer: Ocr | None = None
    error: str | None = None


def plan(paths: Sequence[Path], out: Path | None, pages: str | None = None) -> list[Job]:
    """A job for each file, and for each that a folder holds.

    `scans/a.pdf` becomes `out/a.pdf.txt`, and `scans/2024/a.pdf` of the folder `scans`
    `out/2024/a.pdf.txt`. Raises `UsageError` for what is not there, or if two were to be one.
    """
    places: dict[Path, Path] = {}
    for path in paths:
        if path.is_dir():
            found = [file for file in sorted(path.rglob("*")) if file.suffix.lower() in SUFFIXES]
            if not found:
                raise UsageError(f"There is no image or document in the folder '{path}'.")
            places |= {file: file.relative_to(path) for file in found}
        elif path.exists():
            places.setdefault(path, Path(path.name))
        else:
            raise UsageError(f"There is no file '{path}'.")
    if out is None:
        return [Job(source) for source in places]
    suffix = f".{pages}.txt" if pages else ".txt"
    jobs: dict[Path, Job] = {}
    for source, place in places.items():
        job = Job(source, out / place.with_name(place.name + suffix))
        other = jobs.setdefault(out / place, job)
        if other is not job:
            raise UsageError(
                f"'{other.source}' and '{source}' would both be written to '{job.output}': "
                "read them one after the other, into two folders."
            )
    return list(jobs.values())


async def read_all(
    client: AsyncChatVLMClient,
    jobs: Sequence[Job],
    options: OcrOptions,
    report: Callable[[Outcome], None],
    *,
    parallel: int,
    force: bool = False,
) -> None:
    """At most `parallel` at once; `report` hears of each as it ends. force: even what is done."""
    places = asyncio.Semaphore(parallel)

    async def read(job: Job) -> None:
        async with places:
            if not force and await asyncio.to_thread(job.is_done):
                report(Outcome(job, "skipped"))
            else:
                report(await _read(client, job, options))

    await asyncio.gather(*map(read, jobs))


async def _read(client: AsyncChatVLMClient, job: Job, options: OcrOptions) -> Outcome:
    began = time.monotonic()
    answer = error = None
    try:
        if job.output:  # before the work, lest it be for nothing
            await asyncio.to_thread(job.output.parent.mkdir, parents=True, exist_ok=True)
        answer = await whole(client, job.source, options)
        if unread := _unread(answer):
            numbers = ", ".join(str(page.number) for page in unread)
            error = f"Without page {numbers}: {unread[0].error}"
        await asyncio.to_thread(_keep, job, answer.text, complete=not unread)
    except ChatVLMError as failure:
        error = str(failure)
    except OSError as failure:
        error = f"{failure.strerror}: '{failure.filename or job.output}'."
    seconds = time.monotonic() - began
    return Outcome(job, "failed" if error else "read", seconds, answer, error)


async def whole(client: AsyncChatVLMClient, source: Path, options: OcrOptions) -> Ocr:
    """As `client.read`, but pages that fail are asked for again as long as one of them is read: a
    long document may take longer than the service gives a request."""
    answer = await client.read(source, **options)
    while unread := _unread(answer):
        again: OcrOptions = {**options, "pages": ",".join(str(page.number) for page in unread)}
        try:
            answer = _joined(answer, await client.read(source, **again))
        except ChatVLMError:  # of all of them
            break
        if len(_unread(answer)) == len(unread):
            break
    return answer


def _unread(answer: Ocr) -> list[PageError]:
    return [page for page in answer.pages or () if isinstance(page, PageError)]


def _joined(answer: Ocr, more: Ocr) -> Ocr:
    pages = {page.number: page for page in (*(answer.pages or ()), *(more.pages or ()))}
    texts = [page.text if isinstance(page, Page) else "" for page in pages.values()]
    return answer.model_copy(
        update={
            "text": "\f".join(texts),
            "processing_time": round(answer.processing_time + more.processing_time, 3),
            "pages": list(pages.values()),
        }
    )


def _keep(job: Job, text: str, *, complete: bool) -> None:
    """Raises `OSError`."""
    if job.output and job.incomplete:
        _write(job.output if complete else job.incomplete, f"{text}\n")
        if complete:
            job.incomplete.unlink(missing_ok=True)


def _write(path: Path, text: str) -> None:
    """The whole of it or nothing: a file that is there is done."""
    part = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with part.open("w", encoding="utf-8", newline="\n") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
