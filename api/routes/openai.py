"""OpenAI's protocol: POST /v1/chat/completions, GET /v1/models, GET /v1/models/{model}"""

import time
from typing import Any

from fastapi import APIRouter
from fastapi.responses import StreamingResponse

from api.dependencies.admission import RequestDeadline
from api.dependencies.forms import CompletionForm
from api.formats.openai import CompletionFormat
from api.formats.sse import EVENT_STREAM, stream_response
from api.gateway import CurrentGateway
from api.intake.openapi import json_request
from api.schemas.guide import ERRORS
from api.schemas.openai import Completion, CompletionRequest, ModelCard, ModelCards, OpenAIError
from api.tasks.conversations import prepare_conversation
from common.messages import TextSource

router = APIRouter(prefix="/v1", tags=["openai"])
STARTED = int(time.time())
"""Unix time, seconds. OpenAI's clients expect every model to have been created at some time."""
_ERRORS: dict[int | str, dict[str, Any]] = {
    status: error | {"model": OpenAIError} for status, error in ERRORS.items()
}


@router.get("/models", responses={500: _ERRORS[500]})
async def models(gateway: CurrentGateway) -> ModelCards:
    """The models that can run here."""
    statuses = await gateway.fleet.statuses()
    return ModelCards(
        data=[
            ModelCard(id=model, created=STARTED)
            for model, status in statuses.items()
            if status.state != "unavailable"
        ]
    )


@router.get(
    "/models/{model:path}", responses={status: _ERRORS[status] for status in (404, 500, 503)}
)
async def model(model: str, gateway: CurrentGateway) -> ModelCard:
    """One model, if it is served here."""
    return ModelCard(id=gateway.fleet.pick(model).id, created=STARTED)


@router.post(
    "/chat/completions",
    response_model=Completion,
    responses={
        **_ERRORS,
        200: {
            "description": "The answer; with `stream` chunks of it, then `[DONE]`",
            "content": {EVENT_STREAM: {}},
        },
    },
    openapi_extra=json_request(CompletionRequest),
)
async def complete(
    form: CompletionForm, gateway: CurrentGateway, deadline: RequestDeadline
) -> Completion | StreamingResponse:
    """Go on with a conversation of texts, images and documents."""
    entry = gateway.fleet.pick(form.model)
    request = await prepare_conversation(form, entry, gateway)
    include_usage = form.stream_options is not None and form.stream_options.include_usage
    source: TextSource | None = "image" if form.text_layer == "auto" else None
    answer_format = CompletionFormat(entry.id, include_usage, source, request.n)
    if form.stream:
        stream = gateway.fleet.stream(entry.id, request, deadline)
        return await stream_response(stream, answer_format.events)
    return answer_format.completion(await gateway.fleet.ask(entry.id, request, deadline))
