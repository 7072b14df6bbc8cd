"""Turns a request into the body of a chat completion. Imports what decodes images."""

import json
from dataclasses import asdict, dataclass
from typing import Any

from common.catalog import Entry, SamplingParameters
from common.images import is_blank
from common.messages import Constraint, Request
from runners.upstream.conversation import messages_of
from runners.upstream.families import UpstreamFamily
from runners.upstream.pictures import Picture, make_pictures
from runners.upstream.protocol import ServedModel
from runners.vlm.request_images import ImageMemory

_ASKED = set(asdict(SamplingParameters())) | {"seed"}
"""What a request may say of how tokens are chosen; servers know it by the same names."""


@dataclass(frozen=True)
class Prepared:
    """A request as it is sent."""

    body: dict[str, Any]
    pictures: list[Picture]
    is_blank: bool
    """Whether it is a page with nothing to read, for which models invent text."""

    @property
    def warnings(self) -> list[str]:
        """What of the images was not read, a sentence each."""
        said = [warning for picture in self.pictures for warning in picture.warnings]
        return list(dict.fromkeys(said))


def prepare(
    request: Request,
    entry: Entry,
    family: UpstreamFamily,
    served: ServedModel,
    max_pixels: int,
    memory: ImageMemory,
) -> Prepared:
    """Decode the images and write the body. Blocks. Raises `Refusal`."""
    images = [memory.image(image) for image in request.images]
    pictures = make_pictures(images, entry, max_pixels, served.max_model_len)
    for image in images:
        memory.remember(image)
    body = {
        "model": served.id,
        "messages": messages_of(request, family, [picture.url for picture in pictures]),
        "max_tokens": request.max_tokens,
        "stream": True,
        "stream_options": {"include_usage": True, "continuous_usage_stats": True},
        **_sampling(request, entry),
        **({} if request.constraint is None else _constraint(request.constraint)),
    }
    if request.stop:
        body["stop"] = list(request.stop)
    blank = request.task == "ocr" and is_blank(images[0].pixels)
    return Prepared(body, pictures, blank)


def _constraint(constraint: Constraint) -> dict[str, Any]:
    """What the answer is held to: a schema as OpenAI's protocol has it, anything else as vLLM."""
    match constraint.kind:
        case "json":
            schema = {"name": "answer", "schema": json.loads(constraint.text), "strict": True}
            return {"response_format": {"type": "json_schema", "json_schema": schema}}
        case "choice":
            return {"structured_outputs": {"choice": json.loads(constraint.text)}}
        case _:
            return {"structured_outputs": {constraint.kind: constraint.text}}


def _sampling(request: Request, entry: Entry) -> dict[str, Any]:
    """How tokens are chosen, as far as the request or the model's authors say it.

    The rest is what the server takes from the checkpoint's generation config.
    """
    authors = {"temperature": 0.0} if request.task == "ocr" else asdict(entry.sampling)
    chosen = authors | request.model_dump(include=_ASKED, exclude_none=True)
    return {name: value for name, value in chosen.items() if value is not None}
