"""POST /chat"""

import time

from fastapi import APIRouter
from fastapi.responses import StreamingResponse

from api.dependencies.admission import RequestDeadline
from api.dependencies.forms import ChatForm
from api.formats.guide import ChatFormat
from api.formats.sse import EVENT_STREAM, stream_response
from api.gateway import CurrentGateway
from api.intake.openapi import one_file_request
from api.intake.parameters import ChatParameters
from api.schemas.guide import ERRORS, Chat
from api.tasks.questions import prepare_question
from api.wording import joined
from common.messages import TextSource

router = APIRouter(tags=["chat"])


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
    question = await prepare_question(form.data, asked, entry, gateway)
    source: TextSource | None = "image" if asked.text_layer == "auto" else None
    warning = joined(question.warning, form.warning)
    answer_format = ChatFormat(entry.id, asked.prompt, warning, began, source)
    if asked.stream:
        stream = gateway.fleet.stream(entry.id, question.request, deadline)
        return await stream_response(stream, answer_format.events)
    return answer_format.answer(await gateway.fleet.ask(entry.id, question.request, deadline))
