"""Turns the turns of a request into the messages of OpenAI's protocol."""

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any

from common.failures import ErrorCode, Refusal
from common.messages import Image, Request, Turn, WireModel
from runners.upstream.families import UpstreamFamily

_KNOWN_OF_REQUEST = {
    *("task", "turns", "max_tokens", "language", "options", "says_source", "seed", "stop"),
    *("constraint", "temperature", "top_p", "top_k", "min_p", "min_tokens"),
    *("repetition_penalty", "frequency_penalty", "presence_penalty"),
}
_KNOWN_OF_TURN = {"role", "parts"}
_NAMES = {"toolbox": "tools", "calls": "tool_calls"}
"""As clients name these fields."""
_BETWEEN_SYSTEMS = "\n\n"
"""Stands between the texts of system turns that are joined."""


def check_known(name: str, request: Request) -> None:
    """Raises `Refusal` (BAD_PARAMETER) if the request asks for what is not passed on."""
    unknown = {*_unknown(request, _KNOWN_OF_REQUEST)}
    unknown |= {field for turn in request.turns for field in _unknown(turn, _KNOWN_OF_TURN)}
    if unknown:
        raise Refusal(
            ErrorCode.BAD_PARAMETER,
            f"{name} runs on a server of its own, to which this service does not pass on "
            f"{', '.join(sorted(_NAMES.get(name, name) for name in unknown))}.",
        )


def _unknown(asked: WireModel, known: set[str]) -> Iterator[str]:
    for name, field in type(asked).model_fields.items():
        if name not in known and getattr(asked, name) != field.get_default():
            yield name


def messages_of(
    request: Request, family: UpstreamFamily, urls: Sequence[str]
) -> list[dict[str, Any]]:
    """The messages. urls: data URLs of the request's images, in order."""
    turns = list(request.turns)
    if request.task == "ocr":
        words = request.options.prompt or family.instruction(request)
        turns = [Turn(role="user", parts=(*request.shown, words))]
    left = iter(urls)
    return [
        {"role": turn.role, "content": _content(turn, family, left)}
        for turn in _with_one_system(turns)
    ]


def _with_one_system(turns: Sequence[Turn]) -> list[Turn]:
    """The turns with all system turns joined to one, which comes first.

    The templates of some models write a system turn only there.
    """
    systems = [turn for turn in turns if turn.role == "system"]
    others = [turn for turn in turns if turn.role != "system"]
    if not systems:
        return others
    parts = list(systems[0].parts)
    for turn in systems[1:]:
        parts += [_BETWEEN_SYSTEMS, *turn.parts]
    return [Turn(role="system", parts=tuple(parts)), *others]


def _content(turn: Turn, family: UpstreamFamily, urls: Iterator[str]) -> str | list[dict[str, Any]]:
    """A text, or texts and images as parts."""
    if not any(isinstance(part, Image) for part in turn.parts):
        return "".join(part for part in turn.parts if isinstance(part, str))
    if family.image_words is not None:
        return _images_and_text(turn, family.image_words, urls)
    content: list[dict[str, Any]] = []
    for is_image, group in groupby(turn.parts, lambda part: isinstance(part, Image)):
        if is_image:
            content += [_image(next(urls)) for _ in group]
        else:
            content.append(_text("".join(part for part in group if isinstance(part, str))))
    return content


def _images_and_text(turn: Turn, image_words: str, urls: Iterator[str]) -> list[dict[str, Any]]:
    """The images, then one text that says by `image_words` where each of them is."""
    images = [part for part in turn.parts if isinstance(part, Image)]
    texts = [part for part in turn.parts if isinstance(part, str)]
    if texts and texts[0].startswith(image_words * len(images)):
        text = "".join(texts)  # as the authors' client sends it
    else:
        text = "".join(part if isinstance(part, str) else image_words for part in turn.parts)
    return [*(_image(next(urls)) for _ in images), _text(text)]


def _image(url: str) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": url}}


def _text(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}
