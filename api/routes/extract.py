"""POST /extract"""

import asyncio
import time

from fastapi import APIRouter

from api.dependencies.admission import RequestDeadline
from api.dependencies.forms import ExtractForm
from api.formats.extraction import extraction
from api.gateway import CurrentGateway
from api.intake.openapi import one_file_request
from api.intake.parameters import ExtractParameters
from api.schemas.extraction import Extraction
from api.schemas.guide import ERRORS
from api.tasks.extraction import prepare_extraction

router = APIRouter(tags=["extract"])


@router.post("/extract", responses=ERRORS, openapi_extra=one_file_request(ExtractParameters))
async def extract(
    form: ExtractForm, gateway: CurrentGateway, deadline: RequestDeadline
) -> Extraction:
    """Extract data from one image, or from the pages of a document together."""
    began = time.perf_counter()
    entry = gateway.fleet.pick(form.parameters.model)
    asked = await prepare_extraction(form.data, form.parameters, entry, gateway)
    answer = await gateway.fleet.ask(entry.id, asked.request, deadline)
    return await asyncio.to_thread(
        extraction, answer, asked.constraint, asked.pages, entry.id, began
    )
