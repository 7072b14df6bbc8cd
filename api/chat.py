"""POST /chat"""

import asyncio
import time

from fastapi import APIRouter, Request

from api import params
from api.gateway import Current
from api.ocr import extras
from api.params import ChatParams
from api.schemas import ERRORS, Chat
from api.uploads import UploadReader
from runners import messages
from runners.images import inspect

router = APIRouter(tags=["chat"])


@router.post(
    "/chat",
    response_model_exclude_unset=True,
    responses=ERRORS,
    openapi_extra=params.documented(ChatParams, "file", 1),
)
async def chat(request: Request, gateway: Current) -> Chat:
    """Ask about one image."""
    async with gateway.admit() as deadline:
        form = await UploadReader(gateway.settings, "file", 1).read(request)
        asked = params.parse(ChatParams, request.query_params, form.fields)
        entry = gateway.fleet.pick(asked.model)
        began = time.perf_counter()
        data = form.files[0].data
        await asyncio.to_thread(inspect, data, gateway.settings.max_image_pixels)
        answer = await gateway.fleet.ask(
            entry.id,
            messages.Request(
                task="chat",
                image=data,
                time_limit=deadline.left(),
                prompt=asked.prompt,
                temperature=asked.temperature,
                max_tokens=asked.max_tokens,
            ),
        )
    return Chat(
        response=answer.text,
        model=entry.id,
        processing_time=round(time.perf_counter() - began, 3),
        prompt=asked.prompt,
        **extras(answer),
    )
