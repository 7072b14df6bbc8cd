"""POST /preview"""

import asyncio
import base64
import io
from concurrent.futures import ThreadPoolExecutor

from fastapi import APIRouter, Request

from api.documents.selection import select_pages
from api.gateway import Admitted, Current
from api.intake import parameters
from api.intake.json_bodies import read_form
from api.intake.parameters import PreviewParams
from api.schemas.native import ERRORS, Preview
from common.images import decode

router = APIRouter(tags=["ocr"])
LONGEST_SIDE = 1600
"""Pixels; enough to read an A4 page on a screen."""
_one_at_a_time = ThreadPoolExecutor(1, "preview")
"""A page of 80 megapixels takes 240 MB while it is shrunk."""


@router.post(
    "/preview",
    responses={status: error for status, error in ERRORS.items() if status != 404},
    openapi_extra=parameters.documented(PreviewParams, "file", 1),
)
async def preview(request: Request, gateway: Current, deadline: Admitted) -> Preview:
    """One page as a picture, upright as it is read, and how many pages there are."""
    form = await read_form(request, gateway.settings, gateway.fetcher)
    asked = parameters.parse(PreviewParams, request.query_params, form.fields)
    async with gateway.documents.open(form.files[0].data) as pages:
        [number] = select_pages([(asked.page, asked.page)], pages.count, 1)
        image = await pages.image(number)
    size, jpeg = await asyncio.get_running_loop().run_in_executor(_one_at_a_time, _shrunk, image)
    return Preview(
        image=f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}",
        image_size=list(size),
        page=number,
        pages=pages.count,
    )


def _shrunk(data: bytes) -> tuple[tuple[int, int], bytes]:
    """Width and height as they were, pixels, and a JPEG. Raises `Refusal`. Blocks."""
    image = decode(data)
    size = image.size
    image.thumbnail((LONGEST_SIDE, LONGEST_SIDE))
    file = io.BytesIO()
    image.save(file, "JPEG", quality=85)
    return size, file.getvalue()
