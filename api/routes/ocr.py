"""POST /ocr, /batch/ocr"""

import asyncio

from fastapi import APIRouter

from api.dependencies.admission import RequestDeadline
from api.dependencies.forms import BatchForm, OcrForm
from api.formats import guide
from api.gateway import CurrentGateway
from api.intake.openapi import one_file_request, several_files_request
from api.intake.parameters import OcrParameters
from api.schemas.guide import ERRORS, Batch, Ocr
from api.tasks.reading import FileReader
from common.failures import ErrorCode, Failure, Refusal

router = APIRouter(tags=["ocr"])
NOT_ABOUT_A_FILE = {
    ErrorCode.UNAVAILABLE,
    ErrorCode.LOADING,
    ErrorCode.QUEUE_FULL,
    ErrorCode.DEADLINE,
}
"""Failures that have nothing to do with the file that was sent."""


@router.post("/ocr", responses=ERRORS, openapi_extra=one_file_request(OcrParameters))
async def ocr(form: OcrForm, gateway: CurrentGateway, deadline: RequestDeadline) -> Ocr:
    """Read the text of one image or document."""
    reader = FileReader(gateway, form.parameters, deadline)
    result = await reader.read(form.data)
    return guide.ocr(result, reader.entry.id, form.parameters.language, form.warning)


@router.post("/batch/ocr", responses=ERRORS, openapi_extra=several_files_request(OcrParameters))
async def batch(form: BatchForm, gateway: CurrentGateway, deadline: RequestDeadline) -> Batch:
    """Read several files side by side; one that fails does not touch the others."""
    reader = FileReader(gateway, form.parameters, deadline)
    outcomes = await asyncio.gather(*(reader.try_read(upload) for upload in form.files))
    failures = [outcome for outcome in outcomes if isinstance(outcome, Failure)]
    codes = {failure.code for failure in failures}
    if len(failures) == len(outcomes) and codes <= NOT_ABOUT_A_FILE:
        raise Refusal.of(failures[0])
    filenames = [upload.filename for upload in form.files]
    return guide.batch(list(zip(filenames, outcomes, strict=True)), form.warning)
