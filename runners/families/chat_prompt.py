"""The prompt of a chat model, around texts that must not take part in its grammar."""

import re
from collections.abc import Sequence

from tokenizers import Tokenizer
from transformers import ProcessorMixin

from common.messages import Turn

_SLOT = "\N{OBJECT REPLACEMENT CHARACTER}"


class ChatPrompt:
    """A chat template as tokens, around the turns of a conversation. For any thread.

    The template is rendered around slots; what fills them is tokenised with its special tokens as
    plain characters, so that it can neither end its turn nor ask for visual tokens. All else has
    the tokens of the whole: a tokenizer cuts at special tokens first, and what lies between two of
    them, a text and the template's words beside it, is tokenised in one.
    """

    def __init__(self, processor: ProcessorMixin) -> None:
        self._processor = processor
        tokenizer = processor.tokenizer.backend_tokenizer
        added = tokenizer.get_added_tokens_decoder()
        self._specials = {token.content: number for number, token in added.items()}
        self._grammar = re.compile(f"({'|'.join(map(re.escape, [*self._specials, _SLOT]))})")
        self._plain = Tokenizer.from_str(tokenizer.to_str())
        self._plain.encode_special_tokens = True

    def tokens(self, turns: Sequence[Turn], visual_tokens: Sequence[int]) -> list[int]:
        """The prompt. visual_tokens: how many stand for each image, in the order of the turns."""
        parts = [part for turn in turns for part in turn.parts]
        texts = iter([part for part in parts if isinstance(part, str)])
        counts = iter(visual_tokens)
        tokens: list[int] = []
        plain = ""
        for piece in self._grammar.split(self._template(turns)):
            if piece == _SLOT:
                plain += next(texts)
            elif piece in self._specials:
                count = next(counts) if piece == self._processor.image_token else 1
                tokens += [*self._encode(plain), *[self._specials[piece]] * count]
                plain = ""
            else:
                plain += piece
        if [*texts, *counts]:
            raise ValueError("the chat template leaves a part out")
        return [*tokens, *self._encode(plain)]

    def _template(self, turns: Sequence[Turn]) -> str:
        slot = {"type": "text", "text": _SLOT}
        rendered: str = self._processor.apply_chat_template(
            [
                {
                    "role": turn.role,
                    "content": [
                        slot if isinstance(part, str) else {"type": "image"} for part in turn.parts
                    ],
                }
                for turn in turns
            ],
            tokenize=False,
            add_generation_prompt=True,
        )
        return rendered

    def _encode(self, plain: str) -> list[int]:
        ids: list[int] = self._plain.encode(plain, add_special_tokens=False).ids
        return ids
