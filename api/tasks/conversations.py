"""Turns a chat completion of OpenAI's protocol into the request to a model."""

import asyncio
from typing import Literal

from api.defaults import MAX_TOKENS, TextLayerChoice
from api.documents.pixel_budget import PixelBudget
from api.documents.selection import too_many_pages
from api.gateway import Gateway
from api.intake import base64_files
from api.intake.wrong_parameters import BadParameter
from api.schemas.openai import CompletionRequest, ImagePart, TextPart
from api.tasks.answer_forms import constraint_of, toolbox_of
from api.tasks.image_count import check_image_count
from api.tasks.shown_pages import shown_pages
from common.catalog import Entry
from common.messages import Image, Request, ToolCall, Turn

_ROLES: dict[str, Literal["system", "tool"]] = {"developer": "system", "function": "tool"}
"""OpenAI's newer name of a role, and its older one."""


async def prepare_conversation(asked: CompletionRequest, entry: Entry, gateway: Gateway) -> Request:
    """Opens the files of all messages; each image, and each page of a document, becomes an image.

    Raises `Refusal`: BAD_PARAMETER, BAD_IMAGE or TOO_LARGE.
    """
    if entry.is_embedded:
        _check_reader_can(asked, entry)
    constraint, toolbox = await asyncio.to_thread(lambda: (constraint_of(asked), toolbox_of(asked)))
    if toolbox is not None and constraint is not None and constraint.kind != "json":
        raise BadParameter(
            "tools", "Beside 'tools' an answer's form can only be JSON: leave out one of them."
        )
    most = asked.max_completion_tokens or asked.max_tokens or MAX_TOKENS
    return Request(
        task="chat",
        constraint=constraint,
        toolbox=toolbox,
        turns=await _turns(asked, entry, gateway),
        temperature=asked.temperature,
        top_p=asked.top_p,
        top_k=None if asked.top_k is None else max(asked.top_k, 0),
        min_p=asked.min_p,
        repetition_penalty=asked.repetition_penalty,
        frequency_penalty=asked.frequency_penalty,
        presence_penalty=asked.presence_penalty,
        min_tokens=min(asked.min_tokens or 0, most) or None,
        seed=asked.seed,
        logprobs=asked.top_logprobs or 0 if asked.logprobs else None,
        n=asked.n or 1,
        stop=tuple(asked.stop or ()),
        max_tokens=most,
        says_source=asked.text_layer == "auto",
    )


def _check_reader_can(asked: CompletionRequest, entry: Entry) -> None:
    """Raises `BadParameter` for what only a model that makes its answer token by token can do."""
    if asked.messages[-1].role != "user":
        raise BadParameter(
            "messages", f"Model '{entry.id}' answers the user's last message: it has to come last."
        )
    if (asked.n or 1) > 1:
        raise BadParameter("n", f"Model '{entry.id}' has one answer only: leave out 'n'.")
    if asked.logprobs:
        raise BadParameter(
            "logprobs", f"Model '{entry.id}' knows no probabilities: leave out 'logprobs'."
        )


async def _turns(asked: CompletionRequest, entry: Entry, gateway: Gateway) -> tuple[Turn, ...]:
    turns: list[Turn] = []
    images = 0
    budget = PixelBudget(gateway.settings)
    for number, message in enumerate(asked.messages):
        param = f"messages.{number}.content"
        parts: list[str | Image] = []
        for part in message.content:
            if isinstance(part, TextPart):
                parts.append(part.text)
                continue
            if message.role != "user":
                raise BadParameter(param, "Only the user's messages may hold images and files.")
            url = part.image_url.url if isinstance(part, ImagePart) else part.file.file_data
            data = await _file(url, param, gateway)
            pages = await _images(data, param, entry, gateway, images, budget, asked.text_layer)
            images += len(pages)
            parts += pages
        if not parts and message.role in ("system", "developer"):
            continue
        role = _ROLES.get(message.role, message.role)
        calls = tuple(
            ToolCall(name=call.function.name, arguments=call.function.arguments)
            for call in message.tool_calls
        )
        turns.append(Turn(role=role, parts=tuple(parts), calls=calls))
    if not turns:
        raise BadParameter("messages", "The messages say nothing: send a text or an image.")
    if not entry.converses and (images != 1 or len(turns) > 1):
        raise BadParameter(
            "messages", f"Model '{entry.id}' takes one message with one image, no conversation."
        )
    return tuple(turns)


async def _file(url: str, param: str, gateway: Gateway) -> bytes:
    """The file at `url`; param as for `_images`."""
    if base64_files.is_address(url):
        return await gateway.fetcher.fetch(url)
    return await base64_files.decode(url, param, gateway.settings)


async def _images(
    data: bytes,
    param: str,
    entry: Entry,
    gateway: Gateway,
    images_before: int,
    budget: PixelBudget,
    text_layer: TextLayerChoice,
) -> list[Image]:
    """The image, or all pages of the document.

    param: the place of the file in the request, for OpenAI's error object.
    images_before: how many images the conversation has already.
    """
    max_pages = gateway.settings.max_pages
    async with gateway.documents.open(data) as pages:
        if pages.count > max_pages:
            raise BadParameter(param, f"{too_many_pages(pages.count, max_pages)}.")
        check_image_count(entry, images_before + pages.count)
        numbers = range(1, pages.count + 1)
        return await shown_pages(pages, numbers, budget, entry, text_layer)
