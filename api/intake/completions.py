"""Turns the JSON body of a chat completion into a checked `CompletionRequest`."""

import asyncio
from typing import Any

from fastapi import Request
from pydantic import ValidationError

from api.intake.json_bodies import read_json
from api.intake.wrong_parameters import BadParameter, validation_sentence
from api.schemas.openai import NEUTRAL_VALUES, CompletionRequest
from settings import Settings

SCHEMA_NAMES = {"schema", "parameters", "json", "guided_json"}
"""Members of a request that hold JSON schemas."""


async def read_completion_request(request: Request, settings: Settings) -> CompletionRequest:
    """Reads and checks the body. Raises `BadParameter`, or `Refusal` as `read_json` does."""
    body = await read_json(request, settings, settings.max_files)
    return await asyncio.to_thread(_parse, body)


def _parse(body: Any) -> CompletionRequest:
    body = _without_nulls(body)
    if not isinstance(body, dict):
        raise BadParameter(None, "The body has to be a JSON object.")
    for name, neutral in NEUTRAL_VALUES.items():
        if name in body and body[name] not in neutral:
            raise BadParameter(name, f"Parameter '{name}' is not supported; leave it out.")
    try:
        parsed = CompletionRequest.model_validate(body)
    except ValidationError as error:
        wrong = error.errors()[0]
        if wrong["loc"][:1] == ("messages",):
            # ("messages", 0, "content", 1, "image_url", "image_url", "detail"): the first
            # "image_url" is the type by which pydantic chose the class, not a field that was sent.
            wrong["loc"] = wrong["loc"][:4] + wrong["loc"][5:]
        raise BadParameter(".".join(map(str, wrong["loc"])), validation_sentence(wrong)) from error
    if parsed.top_logprobs and not parsed.logprobs:
        raise BadParameter("top_logprobs", "Parameter 'top_logprobs' needs 'logprobs': true.")
    for number, message in enumerate(parsed.messages):
        if not message.content and message.role == "user":
            raise BadParameter(f"messages.{number}.content", "A message has to say something.")
        if message.tool_calls and message.role != "assistant":
            raise BadParameter(
                f"messages.{number}.tool_calls", "Only the assistant's messages call functions."
            )
    return parsed


def _without_nulls(value: Any) -> Any:
    """A JSON value without the members that are null: clients send back whole answers' messages.

    JSON schemas stay as they are, as null means something in them.
    """
    match value:
        case dict():
            return {
                name: part if name in SCHEMA_NAMES else _without_nulls(part)
                for name, part in value.items()
                if part is not None
            }
        case list():
            return [_without_nulls(part) for part in value]
    return value
