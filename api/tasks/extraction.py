"""Turns a request for data into the request to a model."""

import asyncio
import json
from dataclasses import dataclass
from typing import Any

from pydantic_core import from_json

from api.documents.pixel_budget import PixelBudget
from api.documents.selection import select_pages
from api.gateway import Gateway
from api.intake.parameters import ExtractParameters
from api.intake.wrong_parameters import BadParameter
from api.tasks.image_count import check_image_count
from api.tasks.shown_pages import shown_pages
from common.catalog import Entry
from common.constraints.grammars import BadConstraint, check
from common.messages import Constraint, Request, single_turn

_INSTRUCTION = (
    "Extract from the document the data that this JSON schema describes. Take the values as they "
    "are written there; where there is none, write null if the schema allows it. Answer with the "
    "JSON alone.\n\n{schema}"
)


@dataclass(frozen=True)
class DataRequest:
    """The request to the model, and what its answer is of."""

    request: Request
    constraint: Constraint
    pages: list[int]
    """Numbers of the pages that are shown, from 1."""


async def prepare_extraction(
    data: bytes, parameters: ExtractParameters, entry: Entry, gateway: Gateway
) -> DataRequest:
    """Opens the file and has the selected pages drawn, which are shown to the model together.

    Raises `Refusal`: BAD_PARAMETER, BAD_IMAGE or TOO_LARGE.
    """
    if not entry.converses:
        raise BadParameter(
            "model", f"Model '{entry.id}' reads pages, but extracts no data: choose another one."
        )
    schema = _schema(parameters)
    constraint = Constraint(kind="json", text=json.dumps(schema, ensure_ascii=False))
    try:
        await asyncio.to_thread(check, constraint)
    except BadConstraint as error:
        raise BadParameter("schema", f"Parameter 'schema': {error}.") from error
    async with gateway.documents.open(data) as pages:
        numbers = select_pages(parameters.pages, pages.count, gateway.settings.max_pages)
        check_image_count(entry, len(numbers))
        budget = PixelBudget(gateway.settings)
        images = await shown_pages(pages, numbers, budget, entry, parameters.text_layer)
    request = Request(
        task="chat",
        turns=single_turn(images, _INSTRUCTION.format(schema=constraint.text)),
        constraint=constraint,
        temperature=0.0,
        max_tokens=parameters.max_tokens,
        says_source=parameters.text_layer == "auto",
    )
    return DataRequest(request, constraint, numbers)


def _schema(parameters: ExtractParameters) -> dict[str, Any]:
    """The schema that was sent, or that of the named fields: texts, null where there is none.

    Raises `BadParameter` if it is not JSON, or if there is not exactly one of the two.
    """
    if (parameters.json_schema is None) == (parameters.fields is None):
        raise BadParameter(
            "schema",
            "Say what to extract: a JSON schema in 'schema', or names in 'fields'.",
        )
    if parameters.fields is not None:
        return {
            "type": "object",
            "properties": {name: {"type": ["string", "null"]} for name in parameters.fields},
            "required": list(parameters.fields),
            "additionalProperties": False,
        }
    try:
        schema = from_json(parameters.json_schema or "", allow_inf_nan=False)
    except ValueError:
        raise BadParameter("schema", "Parameter 'schema' is not valid JSON.") from None
    if not isinstance(schema, dict):
        raise BadParameter("schema", "Parameter 'schema' has to be a JSON schema, an object.")
    return schema
