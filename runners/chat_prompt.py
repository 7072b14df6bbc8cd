"""The prompt of a chat model, around a text that must not take part in its grammar."""

from tokenizers import Tokenizer
from transformers import ProcessorMixin

_SLOT = "\N{OBJECT REPLACEMENT CHARACTER}"


class ChatPrompt:
    """A chat template as tokens, around one image and one text of the user. For any thread.

    The text is tokenised apart, special tokens as plain characters, so that it can neither end
    its turn nor ask for visual tokens. Between special tokens, where it stands, this gives the
    tokens of the whole.
    """

    def __init__(self, processor: ProcessorMixin) -> None:
        content = [{"type": "image"}, {"type": "text", "text": _SLOT}]
        whole = processor.apply_chat_template(
            [{"role": "user", "content": content}], tokenize=False, add_generation_prompt=True
        )
        image, tail = whole.split(_SLOT)
        before, after = image.split(processor.image_token)
        tokenizer = processor.tokenizer.backend_tokenizer
        self._before, self._after, self._tail = (
            tokenizer.encode(part, add_special_tokens=False).ids for part in (before, after, tail)
        )
        self._image_token = processor.image_token_id
        self._plain = Tokenizer.from_str(tokenizer.to_str())
        self._plain.encode_special_tokens = True

    def tokens(self, text: str, visual_tokens: int) -> tuple[list[int], int]:
        """The prompt, and how many of its tokens come before the text."""
        prefix = [*self._before, *[self._image_token] * visual_tokens, *self._after]
        text_tokens = self._plain.encode(text, add_special_tokens=False).ids
        return [*prefix, *text_tokens, *self._tail], len(prefix)
