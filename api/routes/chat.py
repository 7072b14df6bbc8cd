"""POST /chat"""

import time

from fastapi import APIRouter
from fastapi.responses import StreamingResponse

from api.dependencies.admission import RequestDeadline
from api.dependencies.forms import ChatForm
from api.documents.pixel_budget import PixelBudget
from api.documents.selection import select_pages
from api.formats.guide import ChatFormat
from api.formats.sse import EVENT_STREAM, stream_response
from api.gateway import CurrentGateway
from api.intake.openapi import one_file_request
from api.intake.parameters import ChatParameters
from api.schemas.guide import ERRORS, Chat
from api.tasks.conversations import check_image_count
from common import messages

router = APIRouter(tags=["chat"])
FIRST_PAGE = ((1, 1),)


@router.post(
    "/chat",
    response_model=Chat,
    responses={
        **ERRORS,
        200: {
            "description": "The answer; with `stream=true` events `piece`, then `answer`",
            "content": {EVENT_STREAM: {}},
        },
    },
    openapi_extra=one_file_request(ChatParameters),
)
async def chat(
    form: ChatForm, gateway: CurrentGateway, deadline: RequestDeadline
) -> Chat | StreamingResponse:
    """Ask about one image, or about pages of a document."""
    began = time.perf_counter()
    asked = form.parameters
    entry = gateway.fleet.pick(asked.model)
    warning = None
    async with gateway.documents.open(form.data) as pages:
        numbers = select_pages(asked.pages or FIRST_PAGE, pages.count, gateway.settings.max_pages)
        check_image_count(entry, len(numbers))
        images = await PixelBudget(gateway.settings).images(pages, numbers)
        if asked.pages is None and pages.count > 1:
            warning = f"Only page 1 of {pages.count} was shown: choose with 'pages'."
    request = messages.Request(
        task="chat",
        turns=messages.question(images, asked.prompt),
        temperature=asked.temperature,
        max_tokens=asked.max_tokens,
    )
    answer_format = ChatFormat(entry.id, asked.prompt, warning, began)
    if asked.stream:
        stream = gateway.fleet.stream(entry.id, request, deadline)
        return await stream_response(stream, answer_format.events)
    return answer_format.answer(await gateway.fleet.ask(entry.id, request, deadline))
