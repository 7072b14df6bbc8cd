"""OpenAI's protocol: POST /v1/chat/completions, GET /v1/models, GET /v1/models/{model}"""

import asyncio
import json
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import StreamingResponse
from fastapi.sse import format_sse_event
from pydantic import ValidationError

from api.documents.pixel_budget import PixelBudget
from api.errors import STATUS, BadParameter, error_body, sentence
from api.gateway import Admitted, Current, Gateway
from api.intake.json_bodies import JSON, decoded, read_json
from api.routes.chat import EVENT_STREAM, UNBUFFERED, check_images
from api.schemas.native import ERRORS, Remarks
from api.schemas.openai import (
    NEUTRAL,
    Choice,
    Completion,
    CompletionRequest,
    CompletionUsage,
    FinishReason,
    ImagePart,
    ModelCard,
    ModelCards,
    OpenAIError,
    ReplyMessage,
    TextPart,
    inlined,
)
from common import messages
from common.catalog import Entry
from common.failures import Refusal
from common.messages import Answer, Piece, Turn

router = APIRouter(prefix="/v1", tags=["openai"])
TEMPERATURE = 0.7
MAX_TOKENS = 2048
STARTED = int(time.time())
_ERRORS: dict[int | str, dict[str, Any]] = {
    status: error | {"model": OpenAIError} for status, error in ERRORS.items()
}


@router.get("/models", responses={500: _ERRORS[500]})
async def models(gateway: Current) -> ModelCards:
    """The models that can run here."""
    statuses = await gateway.fleet.statuses()
    return ModelCards(
        data=[
            ModelCard(id=model, created=STARTED)
            for model, status in statuses.items()
            if status.state != "unavailable"
        ]
    )


@router.get("/models/{model}", responses={status: _ERRORS[status] for status in (404, 500, 503)})
async def model(model: str, gateway: Current) -> ModelCard:
    return ModelCard(id=gateway.fleet.pick(model).id, created=STARTED)


@router.post(
    "/chat/completions",
    response_model=Completion,
    response_model_exclude_unset=True,
    responses={
        **_ERRORS,
        200: {
            "description": "The answer; with `stream` chunks of it, then `[DONE]`",
            "content": {EVENT_STREAM: {}},
        },
    },
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {JSON: {"schema": inlined(CompletionRequest.model_json_schema())}},
        }
    },
)
async def complete(
    request: Request, gateway: Current, deadline: Admitted
) -> Completion | StreamingResponse:
    """Go on with a conversation of texts, images and documents."""
    body = await read_json(request, gateway.settings, gateway.settings.max_files)
    asked = await asyncio.to_thread(_asked, body)
    entry = gateway.fleet.pick(asked.model)
    turns = await _turns(asked, entry, gateway)
    message = messages.Request(
        task="chat",
        turns=turns,
        temperature=TEMPERATURE if asked.temperature is None else asked.temperature,
        top_p=1.0 if asked.top_p is None else asked.top_p,
        seed=asked.seed,
        stop=tuple(asked.stop or ()),
        max_tokens=asked.max_completion_tokens or asked.max_tokens or MAX_TOKENS,
    )
    answering = Answering(entry, asked)
    if not asked.stream:
        return answering.whole(await gateway.fleet.ask(entry.id, message, deadline))
    pieces = gateway.fleet.stream(entry.id, message, deadline)
    first = await anext(pieces)  # what fails before the first piece still gets its own status
    return StreamingResponse(
        answering.chunks(first, pieces), headers=UNBUFFERED, media_type=EVENT_STREAM
    )


def _asked(body: Any) -> CompletionRequest:
    """Raises `BadParameter`."""
    body = _without_nulls(body)
    if not isinstance(body, dict):
        raise BadParameter(None, "The body has to be a JSON object.")
    for name in [name for name in body if name not in CompletionRequest.model_fields]:
        if name not in NEUTRAL or body.pop(name) != NEUTRAL[name]:
            raise BadParameter(name, f"Parameter '{name}' is not supported; leave it out.")
    try:
        asked = CompletionRequest.model_validate(body)
    except ValidationError as error:
        wrong = error.errors()[0]
        if wrong["loc"][:1] == ("messages",):  # the fifth is the kind of a part, no name
            wrong["loc"] = wrong["loc"][:4] + wrong["loc"][5:]
        raise BadParameter(".".join(map(str, wrong["loc"])), sentence(wrong)) from error
    if asked.max_tokens and asked.max_completion_tokens not in (None, asked.max_tokens):
        raise BadParameter(
            "max_tokens",
            "Parameters 'max_tokens' and 'max_completion_tokens' differ.",
        )
    if asked.stream_options and not asked.stream:
        raise BadParameter("stream_options", "Parameter 'stream_options' is for streams only.")
    if asked.messages[-1].role != "user":
        raise BadParameter("messages", "The last message has to be the user's.")
    return asked


def _without_nulls(value: Any) -> Any:
    """Clients send back an answer's message with all that is null in it."""
    match value:
        case dict():
            return {name: _without_nulls(part) for name, part in value.items() if part is not None}
        case list():
            return [_without_nulls(part) for part in value]
    return value


async def _turns(asked: CompletionRequest, entry: Entry, gateway: Gateway) -> tuple[Turn, ...]:
    """The conversation with its images at hand. Raises `Refusal`."""
    turns: list[Turn] = []
    most = gateway.settings.max_files
    files = images = 0
    budget = PixelBudget(gateway.settings)
    for number, message in enumerate(asked.messages):
        param = f"messages.{number}.content"
        parts: list[str | messages.Image] = []
        for part in message.content:
            if isinstance(part, TextPart):
                parts.append(part.text)
                continue
            files += 1
            if files > most:
                raise BadParameter(param, f"At most {most} file(s) a request are taken.")
            if message.role != "user":
                raise BadParameter(param, "Only the user's messages may hold images and files.")
            url = part.image_url.url if isinstance(part, ImagePart) else part.file.file_data
            more = await _images(url, param, entry, gateway, images, budget)
            images += len(more)
            parts += more
        role = "system" if message.role == "developer" else message.role
        turns.append(Turn(role=role, parts=tuple(parts)))
    if not entry.converses and (images != 1 or len(turns) > 1):
        raise BadParameter(
            "messages", f"Model '{entry.id}' takes one message with one image, no conversation."
        )
    return tuple(turns)


async def _images(
    url: str, param: str, entry: Entry, gateway: Gateway, before: int, budget: PixelBudget
) -> list[messages.Image]:
    """An image, or all pages of a document, of a conversation that has some images before it."""
    if url[:5].lower() == "data:":
        data = await asyncio.to_thread(decoded, url, param, gateway.settings)
    else:
        data = await gateway.fetcher.fetch(url)
    most = gateway.settings.max_pages
    async with gateway.documents.open(data) as pages:
        if pages.count > most:
            raise BadParameter(
                param, f"A document may have at most {most} page(s), not {pages.count}."
            )
        check_images(entry, before + pages.count)
        images = await budget.images(pages, range(1, pages.count + 1))
        return [messages.Image(data=image) for image in images]


class Answering:
    """One answer in OpenAI's form, whole or in chunks."""

    def __init__(self, entry: Entry, asked: CompletionRequest) -> None:
        self._usage = asked.stream_options is not None and asked.stream_options.include_usage
        self._identity = {
            "id": f"chatcmpl-{uuid.uuid4().hex}",
            "created": int(time.time()),
            "model": entry.id,
        }

    def whole(self, answer: Answer) -> Completion:
        message = ReplyMessage(role="assistant", content=answer.text, refusal=None)
        return Completion(
            **self._identity,
            object="chat.completion",
            choices=[
                Choice(index=0, message=message, logprobs=None, finish_reason=_reason(answer))
            ],
            usage=_usage(answer),
            **_remarks(answer),
        )

    async def chunks(self, first: Piece | Answer, rest: messages.Stream) -> AsyncIterator[bytes]:
        """Events of one chunk each, the last ones with the reason of the end and the usage, then
        `[DONE]`; or an error."""
        async with aclosing(rest):
            yield self._chunk({"role": "assistant", "content": ""})
            try:
                outcome: Piece | Answer = first
                while isinstance(outcome, Piece):
                    yield self._chunk({"content": outcome.text})
                    outcome = await anext(rest)
            except Refusal as refusal:
                failure = refusal.failure
                yield _event(error_body("/v1/", STATUS[failure.code], failure.detail))
                return
            yield self._chunk({}, _reason(outcome), **_remarks(outcome))
            if self._usage:
                usage = _usage(outcome)
                yield self._event(choices=[], usage=usage and usage.model_dump())
        yield format_sse_event(data_str="[DONE]")

    def _chunk(
        self, delta: dict[str, str], reason: FinishReason | None = None, **more: Any
    ) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}
        if self._usage:
            more["usage"] = None
        return self._event(choices=[choice], **more)

    def _event(self, **fields: Any) -> bytes:
        return _event({**self._identity, "object": "chat.completion.chunk", **fields})


def _event(data: dict[str, Any]) -> bytes:
    return format_sse_event(data_str=json.dumps(data, ensure_ascii=False))


def _reason(answer: Answer) -> FinishReason:
    """A loop or a time limit cuts an answer off as its length does."""
    return "stop" if answer.finish_reason in (None, "stop") else "length"


def _usage(answer: Answer) -> CompletionUsage | None:
    if answer.usage is None:
        return None
    made, given = answer.usage.completion_tokens, answer.usage.prompt_tokens
    return CompletionUsage(prompt_tokens=given, completion_tokens=made, total_tokens=given + made)


def _remarks(answer: Answer) -> dict[str, Any]:
    return answer.model_dump(include=set(Remarks.model_fields), exclude_none=True)
