"""POST /ocr, /batch/ocr"""

import asyncio
import time
from typing import Any

from fastapi import APIRouter, Request

from api import params
from api.gateway import Admitted, Current, Deadline, Gateway
from api.languages import language_code
from api.params import OcrParams
from api.schemas import ERRORS, Batch, BatchError, BatchItem, Extras, Ocr
from api.uploads import Upload, UploadReader
from runners import messages
from runners.catalog import Entry
from runners.images import inspect
from runners.messages import Answer, Failure, Refusal, Why
from settings import settings

router = APIRouter(tags=["ocr"])
MAX_TOKENS = 2048
NOT_ABOUT_THE_FILE = {Why.UNAVAILABLE, Why.QUEUE_FULL, Why.DEADLINE}


@router.post(
    "/ocr",
    response_model_exclude_unset=True,
    responses=ERRORS,
    openapi_extra=params.documented(OcrParams, "file", 1),
)
async def ocr(request: Request, gateway: Current, deadline: Admitted) -> Ocr:
    """Read the text of one image."""
    form = await UploadReader(gateway.settings, "file", 1).read(request)
    asked = params.parse(OcrParams, request.query_params, form.fields)
    reading = Reading(gateway, asked, deadline)
    answer, seconds = await reading.read(form.files[0])
    return Ocr(
        text=answer.text,
        model=reading.entry.id,
        processing_time=seconds,
        image_size=answer.image_size,
        language=asked.language,
        **extras(answer),
    )


@router.post(
    "/batch/ocr",
    response_model_exclude_unset=True,
    responses=ERRORS,
    openapi_extra=params.documented(OcrParams, "files", settings().max_files),
)
async def batch(request: Request, gateway: Current, deadline: Admitted) -> Batch:
    """Read several images side by side; one that fails does not touch the others."""
    uploads = UploadReader(gateway.settings, "files", gateway.settings.max_files)
    form = await uploads.read(request)
    asked = params.parse(OcrParams, request.query_params, form.fields)
    reading = Reading(gateway, asked, deadline)
    outcomes = await asyncio.gather(*(reading.outcome(upload) for upload in form.files))
    failures = [outcome for outcome in outcomes if isinstance(outcome, Failure)]
    reasons = {failure.why for failure in failures}
    if len(failures) == len(outcomes) and reasons <= NOT_ABOUT_THE_FILE:
        raise Refusal(failures[0].why, failures[0].detail, failures[0].retry_after)
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
    """What one request asks of each of its images."""

    def __init__(self, gateway: Gateway, asked: OcrParams, deadline: Deadline) -> None:
        self.entry: Entry = gateway.fleet.pick(
            asked.model, asked.options.model_dump(exclude_defaults=True)
        )
        self.language = language_code(asked.language) if asked.language else None
        self.options = asked.options
        self.gateway = gateway
        self.deadline = deadline

    async def read(self, upload: Upload) -> tuple[Answer, float]:
        """The answer and the seconds it took. Raises `Refusal`."""
        if upload.failure is not None:
            raise Refusal(upload.failure.why, upload.failure.detail)
        began = time.perf_counter()
        await asyncio.to_thread(inspect, upload.data, self.gateway.settings.max_image_pixels)
        answer = await self.gateway.fleet.ask(
            self.entry.id,
            messages.Request(
                task="ocr",
                image=upload.data,
                time_limit=self.deadline.left(),
                language=self.language,
                max_tokens=MAX_TOKENS,
                options=self.options,
            ),
        )
        return answer, round(time.perf_counter() - began, 3)

    async def outcome(self, upload: Upload) -> tuple[Answer, float] | Failure:
        try:
            return await self.read(upload)
        except Refusal as refusal:
            return refusal.failure


def extras(answer: Answer) -> dict[str, Any]:
    """The fields that the model filled in beside the guide's."""
    fields = {name: getattr(answer, name) for name in Extras.model_fields}
    return {name: value for name, value in fields.items() if value is not None}


def _item(filename: str, outcome: tuple[Answer, float] | Failure) -> BatchItem | BatchError:
    if isinstance(outcome, Failure):
        return BatchError(filename=filename, error=outcome.detail, status="error")
    answer, seconds = outcome
    return BatchItem(
        filename=filename,
        text=answer.text,
        processing_time=seconds,
        image_size=answer.image_size,
        status="success",
        **extras(answer),
    )
