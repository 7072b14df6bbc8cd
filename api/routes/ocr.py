"""POST /ocr, /batch/ocr"""

import asyncio
import time
from collections.abc import Sequence
from typing import Any, cast

from fastapi import APIRouter, Request

from api.documents.opening import Pages
from api.documents.selection import select_pages
from api.gateway import Admitted, Current, Gateway
from api.intake import parameters
from api.intake.json_bodies import read_form
from api.intake.languages import language_code
from api.intake.parameters import OcrParams
from api.intake.uploads import Upload, UploadReader
from api.schemas.native import ERRORS, Batch, BatchError, BatchItem, Extras, Ocr, Page, PageError
from common import messages
from common.catalog import Entry
from common.deadline import Deadline
from common.failures import ErrorCode, Failure, Refusal
from common.messages import Answer
from settings import settings

router = APIRouter(tags=["ocr"])
MAX_TOKENS = 2048
PAGES_AT_ONCE = 8
"""Of one request: drawn, sent, and read side by side. It bounds what they take in memory."""
NOT_ABOUT_THE_FILE = {ErrorCode.UNAVAILABLE, ErrorCode.QUEUE_FULL, ErrorCode.DEADLINE}


@router.post(
    "/ocr",
    response_model_exclude_unset=True,
    responses=ERRORS,
    openapi_extra=parameters.documented(OcrParams, "file", 1),
)
async def ocr(request: Request, gateway: Current, deadline: Admitted) -> Ocr:
    """Read the text of one image or document."""
    form = await read_form(request, gateway.settings, gateway.fetcher)
    asked = parameters.parse(OcrParams, request.query_params, form.fields)
    reading = Reading(gateway, asked, deadline)
    read = await reading.read(form.files[0])
    return Ocr(model=reading.entry.id, language=asked.language, **read)


@router.post(
    "/batch/ocr",
    response_model_exclude_unset=True,
    responses=ERRORS,
    openapi_extra=parameters.documented(OcrParams, "files", settings().max_files),
)
async def batch(request: Request, gateway: Current, deadline: Admitted) -> Batch:
    """Read several files side by side; one that fails does not touch the others."""
    uploads = UploadReader(gateway.settings, "files", gateway.settings.max_files)
    form = await uploads.read(request)
    asked = parameters.parse(OcrParams, request.query_params, form.fields)
    reading = Reading(gateway, asked, deadline)
    outcomes = await asyncio.gather(*(reading.outcome(upload) for upload in form.files))
    failures = [outcome for outcome in outcomes if isinstance(outcome, Failure)]
    reasons = {failure.code for failure in failures}
    if len(failures) == len(outcomes) and reasons <= NOT_ABOUT_THE_FILE:
        raise Refusal.of(failures[0])
    return Batch(
        results=[
            _item(upload.filename, outcome)
            for upload, outcome in zip(form.files, outcomes, strict=True)
        ],
        total=len(outcomes),
        successful=len(outcomes) - len(failures),
        failed=len(failures),
    )


class Reading:
    """What one request asks of each page of its files."""

    def __init__(self, gateway: Gateway, asked: OcrParams, deadline: Deadline) -> None:
        self.entry: Entry = gateway.fleet.pick(
            asked.model, asked.options.model_dump(exclude_defaults=True)
        )
        self.language = language_code(asked.language) if asked.language else None
        self.asked = asked
        self.gateway = gateway
        self.deadline = deadline
        self._places = asyncio.Semaphore(PAGES_AT_ONCE)

    async def read(self, upload: Upload) -> dict[str, Any]:
        """The fields that are answered of a file, those of a document's pages within.

        Raises `Refusal`, for a document only where it is no page's fault, or every page's.
        """
        if upload.failure is not None:
            raise Refusal.of(upload.failure)
        began = time.perf_counter()
        async with self.gateway.documents.open(upload.data) as pages:
            numbers = select_pages(self.asked.pages, pages.count, self.gateway.settings.max_pages)
            if not pages.is_document:
                return await self._page(pages, 1)
            outcomes = await self._side_by_side(pages, numbers)
        read = [page for page in outcomes if isinstance(page, dict)]
        if not read:
            failure = cast(Failure, outcomes[0])
            raise Refusal.of(failure)
        return {
            "text": "\f".join(page["text"] if isinstance(page, dict) else "" for page in outcomes),
            "processing_time": _seconds_since(began),
            "image_size": read[0]["image_size"],
            "pages": [
                PageError(number=number, error=page.detail, status="error")
                if isinstance(page, Failure)
                else Page(number=number, status="success", **page)
                for number, page in zip(numbers, outcomes, strict=True)
            ],
        }

    async def outcome(self, upload: Upload) -> dict[str, Any] | Failure:
        try:
            return await self.read(upload)
        except Refusal as refusal:
            return refusal.failure

    async def _side_by_side(
        self, pages: Pages, numbers: Sequence[int]
    ) -> list[dict[str, Any] | Failure]:
        """Raises `Refusal` (QUEUE_FULL) where there is no place for the first page; with it the
        document is accepted, so that the others wait for theirs."""

        async def read(number: int) -> dict[str, Any] | Failure:
            first = number == numbers[0]
            try:
                return await self._page(pages, number, patient=not first)
            except Refusal as refusal:
                if first and refusal.code is ErrorCode.QUEUE_FULL:
                    raise
                return refusal.failure

        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(read(number)) for number in numbers]
        except ExceptionGroup as errors:
            raise errors.exceptions[0] from None
        return [task.result() for task in tasks]

    async def _page(self, pages: Pages, number: int, patient: bool = False) -> dict[str, Any]:
        """The fields that are answered of a page. Raises `Refusal`.

        patient: while the runner's queue is full, it waits for its place.
        """
        async with self._places:
            began = time.perf_counter()
            async with self.deadline.bound():
                image = await pages.image(number)
            answer = None
            while answer is None:
                try:
                    answer = await self._ask(image)
                except Refusal as refusal:
                    failure = refusal.failure
                    if failure.code is not ErrorCode.QUEUE_FULL or not patient:
                        raise
                    await asyncio.sleep(min(failure.retry_after or 1, self.deadline.left))
        return {
            "text": answer.text,
            "processing_time": _seconds_since(began),
            "image_size": answer.image_size,
            **extras(answer),
        }

    async def _ask(self, image: bytes) -> Answer:
        request = messages.Request(
            task="ocr",
            turns=messages.question([image]),
            language=self.language,
            max_tokens=MAX_TOKENS,
            options=self.asked.options,
        )
        return await self.gateway.fleet.ask(self.entry.id, request, self.deadline)


def extras(answer: Answer) -> dict[str, Any]:
    """The fields that the model filled in beside the guide's."""
    fields = {name: getattr(answer, name) for name in Extras.model_fields}
    return {name: value for name, value in fields.items() if value is not None}


def _item(filename: str, outcome: dict[str, Any] | Failure) -> BatchItem | BatchError:
    if isinstance(outcome, Failure):
        return BatchError(filename=filename, error=outcome.detail, status="error")
    return BatchItem(filename=filename, status="success", **outcome)


def _seconds_since(began: float) -> float:
    return round(time.perf_counter() - began, 3)
