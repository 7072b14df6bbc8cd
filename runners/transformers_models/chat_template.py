"""Turns conversations into tokens, so that texts cannot pass for the chat template's own words."""

import re
from collections.abc import Sequence
from typing import Any

from jinja2 import TemplateError
from tokenizers import Tokenizer
from transformers import ProcessorMixin

from common.messages import Toolbox
from runners.transformers_models.tool_prompts import call, definition, unshielded
from runners.vlm.interface import ModelTurn, TurnPart

_SLOT = "\N{OBJECT REPLACEMENT CHARACTER}"
_BETWEEN_SYSTEMS = "\n\n"
"""Stands between the texts of system turns that are joined."""
_IMAGE: dict[str, str] = {"type": "image"}
_TEXT = {"type": "text", "text": _SLOT}


class ChatTemplate:
    """Renders and tokenises conversations with a model's chat template. For any thread.

    The template is rendered with a slot in place of each text. The texts are tokenised with special
    tokens taken as plain characters, so that they can neither end their turn nor ask for visual
    tokens. Otherwise the tokens are those of the template rendered with the texts: a tokenizer cuts
    at special tokens first, and what is between two of them, a text and the template's words beside
    it, is tokenised here in one as well.
    """

    def __init__(self, processor: ProcessorMixin) -> None:
        """The processor needs a template in which `template_fault` finds no fault."""
        self._processor = processor
        self._joins_systems = not _writes_late_systems(processor)
        tokenizer = processor.tokenizer.backend_tokenizer
        added = tokenizer.get_added_tokens_decoder()
        self._special_ids = {token.content: number for number, token in added.items()}
        self._specials = re.compile("|".join(map(re.escape, [*self._special_ids, _SLOT])))
        self._pattern = re.compile(f"({self._specials.pattern})")
        self._plain = Tokenizer.from_str(tokenizer.to_str())
        self._plain.encode_special_tokens = True

    def takes_tools(self, turns: Sequence[ModelTurn], toolbox: Toolbox) -> bool:
        """Whether the template describes functions to the model."""
        return self._written(turns, toolbox) != self._written(turns, None)

    def tokens(
        self,
        turns: Sequence[ModelTurn],
        visual_tokens: Sequence[int],
        toolbox: Toolbox | None = None,
    ) -> list[int]:
        """Returns the tokens of the prompt.

        visual_tokens: how many tokens each image takes, in the order of the turns. toolbox: the
        functions that the template describes.

        Raises `ValueError` if the template leaves out a text or an image.
        """
        if self._joins_systems:
            turns = with_one_system(turns)
        parts = [part for turn in turns for part in turn.parts]
        texts = iter([part for part in parts if isinstance(part, str)])
        counts = iter(visual_tokens)
        tokens: list[int] = []
        plain = ""
        for piece in self._pattern.split(self._written(turns, toolbox)):
            if piece == _SLOT:
                plain += next(texts)
            elif piece in self._special_ids:
                count = next(counts) if piece == self._processor.image_token else 1
                tokens += [*self._encode(plain), *[self._special_ids[piece]] * count]
                plain = ""
            else:
                plain += unshielded(piece)
        if [*texts, *counts]:
            raise ValueError("the chat template leaves a part out")
        return [*tokens, *self._encode(plain)]

    def _written(self, turns: Sequence[ModelTurn], toolbox: Toolbox | None) -> str:
        tools = [definition(tool, self._specials) for tool in (toolbox.tools if toolbox else ())]
        return _rendered(self._processor, [self._message(turn) for turn in turns], tools)

    def _message(self, turn: ModelTurn) -> dict[str, Any]:
        content = [_TEXT if isinstance(part, str) else _IMAGE for part in turn.parts]
        message = _message(turn.role, content)
        if turn.calls:
            message["tool_calls"] = [call(made, self._specials) for made in turn.calls]
        return message

    def _encode(self, plain: str) -> list[int]:
        ids: list[int] = self._plain.encode(plain, add_special_tokens=False).ids
        return ids


def template_fault(processor: ProcessorMixin) -> str | None:
    """Returns what is wrong with the chat template of a checkpoint's files; None if it can be used.

    A template of the tokenizer's files is used if the processor's have none.
    """
    if processor.chat_template is None:
        processor.chat_template = processor.tokenizer.chat_template
    if processor.chat_template is None:
        return (
            "there is no chat template (chat_template.json, chat_template.jinja, or "
            "'chat_template' in tokenizer_config.json)"
        )
    asked = [
        _message("user", [_IMAGE, _TEXT]),
        _message("assistant", [_TEXT]),
        _message("user", [_TEXT]),
    ]
    try:
        written = _rendered(processor, asked)
    except (TemplateError, TypeError, ValueError):
        written = ""
    if written.count(_SLOT) == 3 and written.count(processor.image_token) == 1:
        return None
    return "their chat template does not write images and texts in turns"


def with_one_system(turns: Sequence[ModelTurn]) -> list[ModelTurn]:
    """The turns with all system turns joined to one, which comes first."""
    systems = [turn for turn in turns if turn.role == "system"]
    others = [turn for turn in turns if turn.role != "system"]
    if not systems:
        return others
    parts: list[TurnPart] = []
    for turn in systems:
        parts += [*([_BETWEEN_SYSTEMS] if parts else []), *turn.parts]
    return [ModelTurn("system", tuple(parts)), *others]


def _writes_late_systems(processor: ProcessorMixin) -> bool:
    """Whether the template writes a system turn that is not the first turn."""
    asked = [_message(role, [_TEXT]) for role in ("system", "system", "user", "system")]
    try:
        return _rendered(processor, asked).count(_SLOT) == len(asked)
    except (TemplateError, TypeError, ValueError):  # such as a template's own raise_exception
        return False


def _message(role: str, content: Sequence[dict[str, str]]) -> dict[str, Any]:
    return {"role": role, "content": list(content)}


def _rendered(
    processor: ProcessorMixin,
    messages: Sequence[dict[str, Any]],
    tools: Sequence[dict[str, Any]] = (),
) -> str:
    """The prompt of a conversation, and of functions that the model may call."""
    rendered: str = processor.apply_chat_template(
        list(messages), tools=list(tools) or None, tokenize=False, add_generation_prompt=True
    )
    return rendered
