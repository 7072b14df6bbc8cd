"""POST /chat"""

import time
from collections.abc import AsyncIterator
from contextlib import aclosing

from fastapi import APIRouter, Request
from fastapi.responses import StreamingResponse
from fastapi.sse import format_sse_event
from pydantic import BaseModel

from api.documents.pixel_budget import PixelBudget
from api.documents.selection import select_pages
from api.gateway import Admitted, Current
from api.intake import parameters
from api.intake.json_bodies import read_form
from api.intake.parameters import ChatParams
from api.routes.ocr import extras
from api.schemas.native import ERRORS, Chat, ChatPiece, Error
from common import messages
from common.catalog import Entry
from common.failures import ErrorCode, Refusal
from common.messages import Answer, Piece

router = APIRouter(tags=["chat"])
FIRST = ((1, 1),)
EVENT_STREAM = "text/event-stream"
UNBUFFERED = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
"""Headers without which a proxy (the latter: nginx) may hold events back until the last."""


@router.post(
    "/chat",
    response_model=Chat,
    response_model_exclude_unset=True,
    responses={
        **ERRORS,
        200: {
            "description": "The answer; with `stream=true` events `piece`, then `answer`",
            "content": {EVENT_STREAM: {}},
        },
    },
    openapi_extra=parameters.documented(ChatParams, "file", 1),
)
async def chat(request: Request, gateway: Current, deadline: Admitted) -> Chat | StreamingResponse:
    """Ask about one image, or about pages of a document."""
    form = await read_form(request, gateway.settings, gateway.fetcher)
    asked = parameters.parse(ChatParams, request.query_params, form.fields)
    question = Question(gateway.fleet.pick(asked.model), asked)
    async with gateway.documents.open(form.files[0].data) as pages:
        numbers = select_pages(asked.pages or FIRST, pages.count, gateway.settings.max_pages)
        check_images(question.entry, len(numbers))
        images = await PixelBudget(gateway.settings).images(pages, numbers)
        if asked.pages is None and pages.count > 1:
            question.warning = f"Only page 1 of {pages.count} was shown: choose with 'pages'."
    message = messages.Request(
        task="chat",
        turns=messages.question(images, asked.prompt),
        temperature=asked.temperature,
        max_tokens=asked.max_tokens,
    )
    if not asked.stream:
        return question.answered(await gateway.fleet.ask(question.entry.id, message, deadline))
    pieces = gateway.fleet.stream(question.entry.id, message, deadline)
    first = await anext(pieces)  # what fails before the first piece still gets its own status
    return StreamingResponse(
        question.events(first, pieces), headers=UNBUFFERED, media_type=EVENT_STREAM
    )


def check_images(entry: Entry, count: int) -> None:
    """Raises `Refusal` (BAD_PARAMETER) where the model does not take so many at once."""
    if count > entry.images:
        raise Refusal(
            ErrorCode.BAD_PARAMETER,
            f"Model '{entry.id}' takes at most {entry.images} image(s) at once, not {count}.",
        )


class Question:
    """What one request asks of its image."""

    def __init__(self, entry: Entry, asked: ChatParams) -> None:
        self.entry = entry
        self.asked = asked
        self.warning: str | None = None
        self.began = time.perf_counter()

    def answered(self, answer: Answer) -> Chat:
        if warnings := [warning for warning in (answer.warning, self.warning) if warning]:
            answer = answer.model_copy(update={"warning": " ".join(warnings)})
        return Chat(
            response=answer.text,
            model=self.entry.id,
            processing_time=round(time.perf_counter() - self.began, 3),
            prompt=self.asked.prompt,
            **extras(answer),
        )

    async def events(self, first: Piece | Answer, rest: messages.Stream) -> AsyncIterator[bytes]:
        """Events `piece`, then one `answer` with the guide's fields, or one `error`."""
        async with aclosing(rest):
            yield self._event(first)
            try:
                async for outcome in rest:
                    yield self._event(outcome)
            except Refusal as refusal:
                yield _event("error", Error(detail=refusal.failure.detail))

    def _event(self, outcome: Piece | Answer) -> bytes:
        if isinstance(outcome, Piece):
            return _event("piece", ChatPiece(text=outcome.text))
        return _event("answer", self.answered(outcome))


def _event(name: str, data: BaseModel) -> bytes:
    return format_sse_event(event=name, data_str=data.model_dump_json(exclude_unset=True))
