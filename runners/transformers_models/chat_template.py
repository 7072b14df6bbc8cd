"""Turns conversations into tokens, so that texts cannot pass for the chat template's own words."""

import re
from collections.abc import Sequence
from typing import Any

from tokenizers import Tokenizer
from transformers import ProcessorMixin

from common.messages import Toolbox
from runners.transformers_models.tool_prompts import call, definition, unshielded
from runners.vlm.interface import ModelTurn

_SLOT = "\N{OBJECT REPLACEMENT CHARACTER}"


class ChatTemplate:
    """Renders and tokenises conversations with a model's chat template. For any thread.

    The template is rendered with a slot in place of each text. The texts are tokenised with special
    tokens taken as plain characters, so that they can neither end their turn nor ask for visual
    tokens. Otherwise the tokens are those of the template rendered with the texts: a tokenizer cuts
    at special tokens first, and what is between two of them, a text and the template's words beside
    it, is tokenised here in one as well.
    """

    def __init__(self, processor: ProcessorMixin) -> None:
        self._processor = processor
        tokenizer = processor.tokenizer.backend_tokenizer
        added = tokenizer.get_added_tokens_decoder()
        self._special_ids = {token.content: number for number, token in added.items()}
        self._specials = re.compile("|".join(map(re.escape, [*self._special_ids, _SLOT])))
        self._pattern = re.compile(f"({self._specials.pattern})")
        self._plain = Tokenizer.from_str(tokenizer.to_str())
        self._plain.encode_special_tokens = True

    def takes_tools(self, turns: Sequence[ModelTurn], toolbox: Toolbox) -> bool:
        """Whether the template describes functions to the model."""
        return self._rendered(turns, toolbox) != self._rendered(turns, None)

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
        parts = [part for turn in turns for part in turn.parts]
        texts = iter([part for part in parts if isinstance(part, str)])
        counts = iter(visual_tokens)
        tokens: list[int] = []
        plain = ""
        for piece in self._pattern.split(self._rendered(turns, toolbox)):
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

    def _rendered(self, turns: Sequence[ModelTurn], toolbox: Toolbox | None) -> str:
        tools = [definition(tool, self._specials) for tool in (toolbox.tools if toolbox else ())]
        rendered: str = self._processor.apply_chat_template(
            [self._message(turn) for turn in turns],
            tools=tools or None,
            tokenize=False,
            add_generation_prompt=True,
        )
        return rendered

    def _message(self, turn: ModelTurn) -> dict[str, Any]:
        slot, image = {"type": "text", "text": _SLOT}, {"type": "image"}
        content = [slot if isinstance(part, str) else image for part in turn.parts]
        message: dict[str, Any] = {"role": turn.role, "content": content}
        if turn.calls:
            message["tool_calls"] = [call(made, self._specials) for made in turn.calls]
        return message

    def _encode(self, plain: str) -> list[int]:
        ids: list[int] = self._plain.encode(plain, add_special_tokens=False).ids
        return ids
