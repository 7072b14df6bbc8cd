"""Reads many files at once and writes the text of each as soon as it is read."""

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

IMAGE_SUFFIXES = {".tif", ".tiff", ".jpg", ".jpeg", ".png", ".bmp", ".webp", ".gif"}
IMAGE_SUFFIXES |= {".heic", ".heif", ".avif", ".jp2"}
SUFFIXES = {".pdf"} | IMAGE_SUFFIXES
"""Suffixes of the files that are read from a folder."""


class UsageError(Exception):
    """The command cannot run as given. The text is a sentence for the user."""


@dataclass(frozen=True)
class Job:
    """One file to read, and the file that its text goes to."""

    source: Path
    output: Path | None = None

    @property
    def incomplete(self) -> Path | None:
        """The file for a text that lacks pages, so that the next run reads the source again."""
        return self.output and self.output.with_suffix(".incomplete.txt")

    def is_done(self) -> bool:
        """Whether the text exists and is not older than the source."""
        try:
            return (
                self.output is not None
                and self.output.stat().st_mtime >= self.source.stat().st_mtime
            )
        except OSError:
            return False


@dataclass(frozen=True)
class Outcome:
    """The result of one job."""

    job: Job
    status: Literal["read", "skipped", "failed"]
    seconds: float = 0.0
    answer: Ocr | None = None
    error: str | None = None


def plan_jobs(paths: Sequence[Path], out: Path | None, pages: str | None = None) -> list[Job]:
    """A job for each file, and for each file of a folder.

    The text of `scans/a.pdf` goes to `out/a.pdf.txt`. If the folder `scans` is given, the text of
    `scans/2024/a.pdf` goes to `out/2024/a.pdf.txt`. Raises `UsageError` if a path does not exist,
    or if two texts would go to the same file.
    """
    targets: dict[Path, Path] = {}
    for path in paths:
        if path.is_dir():
            found = [file for file in sorted(path.rglob("*")) if file.suffix.lower() in SUFFIXES]
            if not found:
                raise UsageError(f"There is no image or document in the folder '{path}'.")
            targets |= {file: file.relative_to(path) for file in found}
        elif path.exists():
            targets.setdefault(path, Path(path.name))
        else:
            raise UsageError(f"There is no file '{path}'.")
    if out is None:
        return [Job(source) for source in targets]
    suffix = f".{pages}.txt" if pages else ".txt"
    jobs: dict[Path, Job] = {}
    for source, target in targets.items():
        job = Job(source, out / target.with_name(target.name + suffix))
        other = jobs.setdefault(out / target, job)
        if other is not job:
            raise UsageError(
                f"'{other.source}' and '{source}' would both be written to '{job.output}': "
                "read them in two runs, into two folders."
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
    """Run the jobs, at most `parallel` at once; calls `report` with each outcome.

    force: read a file again even if its text exists.
    """
    slots = asyncio.Semaphore(parallel)

    async def read(job: Job) -> None:
        async with slots:
            if not force and await asyncio.to_thread(job.is_done):
                report(Outcome(job, "skipped"))
            else:
                report(await _read(client, job, options))

    await asyncio.gather(*map(read, jobs))


async def _read(client: AsyncChatVLMClient, job: Job, options: OcrOptions) -> Outcome:
    began = time.monotonic()
    answer = error = None
    try:
        if job.output:  # first, so that no file is read for an output that cannot be written
            await asyncio.to_thread(job.output.parent.mkdir, parents=True, exist_ok=True)
        answer = await read_all_pages(client, job.source, options)
        if failed := _failed_pages(answer):
            numbers = ", ".join(str(page.number) for page in failed)
            error = f"Without page {numbers}: {failed[0].error}"
        await asyncio.to_thread(_save, job, answer.text, complete=not failed)
    except ChatVLMError as failure:
        error = str(failure)
    except OSError as failure:
        error = f"{failure.strerror}: '{failure.filename or job.output}'."
    seconds = time.monotonic() - began
    return Outcome(job, "failed" if error else "read", seconds, answer, error)


async def read_all_pages(client: AsyncChatVLMClient, source: Path, options: OcrOptions) -> Ocr:
    """Read a file, and ask again for pages that failed as long as that reads at least one more.

    The pages of a long document can take longer than the time limit of one request.
    """
    answer = await client.read(source, **options)
    while failed := _failed_pages(answer):
        again: OcrOptions = {**options, "pages": ",".join(str(page.number) for page in failed)}
        try:
            answer = _merge(answer, await client.read(source, **again))
        except ChatVLMError:  # every one of these pages failed again
            break
        if len(_failed_pages(answer)) == len(failed):
            break
    return answer


def _failed_pages(answer: Ocr) -> list[PageError]:
    return [page for page in answer.pages or () if isinstance(page, PageError)]


def _merge(answer: Ocr, more: Ocr) -> Ocr:
    pages = {page.number: page for page in (*(answer.pages or ()), *(more.pages or ()))}
    texts = [page.text if isinstance(page, Page) else "" for page in pages.values()]
    return answer.model_copy(
        update={
            "text": "\f".join(texts),
            "processing_time": round(answer.processing_time + more.processing_time, 3),
            "pages": list(pages.values()),
        }
    )


def _save(job: Job, text: str, *, complete: bool) -> None:
    """Write the text to the job's output, if it has one. Raises `OSError`."""
    if job.output and job.incomplete:
        _write(job.output if complete else job.incomplete, f"{text}\n")
        if complete:
            job.incomplete.unlink(missing_ok=True)


def _write(path: Path, text: str) -> None:
    """Write the whole text or nothing, because an existing file counts as done."""
    part = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with part.open("w", encoding="utf-8", newline="\n") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
