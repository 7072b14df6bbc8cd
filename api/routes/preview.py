"""POST /preview"""

import asyncio
import base64
import io
from concurrent.futures import ThreadPoolExecutor

from fastapi import APIRouter

from api.dependencies.forms import PreviewForm
from api.documents.selection import select_pages
from api.gateway import CurrentGateway
from api.intake.openapi import one_file_request
from api.intake.parameters import PreviewParameters
from api.schemas.guide import ERRORS, Preview
from api.wording import joined
from common.images import decode_with_warnings

router = APIRouter(tags=["ocr"])
LONGEST_SIDE = 1600
"""Pixels; enough to read an A4 page on a screen."""
_executor = ThreadPoolExecutor(1, "preview")
"""One page at a time: one of 80 megapixels takes 240 MB while it is shrunk."""


@router.post(
    "/preview",
    responses={status: error for status, error in ERRORS.items() if status != 404},
    openapi_extra=one_file_request(PreviewParameters),
)
async def preview(form: PreviewForm, gateway: CurrentGateway) -> Preview:
    """One page as a picture, turned by `rotation`, and how many pages there are."""
    page = form.parameters.page
    async with gateway.documents.open(form.data) as pages:
        [number] = select_pages([(page, page)], pages.count, 1)
        image = await pages.image(number)
    size, jpeg, warnings = await asyncio.get_running_loop().run_in_executor(
        _executor, _shrink, image, form.parameters.rotation
    )
    return Preview(
        image=f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}",
        image_size=list(size),
        page=number,
        pages=pages.count,
        warning=joined(*warnings, form.warning),
    )


def _shrink(data: bytes, degrees: int) -> tuple[tuple[int, int], bytes, list[str]]:
    """The turned page's own width and height in pixels, a JPEG of it, shrunk, and warnings.

    degrees: clockwise, a multiple of 90. Blocks. Raises `Refusal` (BAD_IMAGE).
    """
    image, warnings = decode_with_warnings(data)
    size = image.size if degrees % 180 == 0 else image.size[::-1]
    image.thumbnail((LONGEST_SIDE, LONGEST_SIDE))
    image = image.rotate(-degrees, expand=True)
    file = io.BytesIO()
    image.save(file, "JPEG", quality=85)
    return size, file.getvalue(), warnings
