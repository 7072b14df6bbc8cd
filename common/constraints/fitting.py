"""Tells whether a text fits a constraint, without a model."""

from functools import cache

from llguidance import LLMatcher, LLTokenizer, TokenizerWrapper

from common.constraints.grammars import grammar_of
from common.constraints.json_schemas import LIMITS
from common.messages import Constraint

_END = 256


def fits(constraint: Constraint, text: str) -> bool:
    """Whether a text is one that a model could have made under the constraint."""
    matcher = LLMatcher(_bytes(), grammar_of(constraint), log_level=0, limits=LIMITS)
    data = list(text.encode())
    taken = matcher.try_consume_tokens(data)
    return taken == len(data) and matcher.is_accepting() and not matcher.is_error()


class _Bytes:
    """A vocabulary whose tokens are bytes, as llguidance asks for it."""

    eos_token_id = _END
    bos_token_id = None
    tokens = (*(bytes([value]) for value in range(_END)), b"<end>")
    special_token_ids = (_END,)

    def __call__(self, text: bytes) -> list[int]:
        return list(text)


@cache
def _bytes() -> LLTokenizer:
    return LLTokenizer(TokenizerWrapper(_Bytes()), eos_token=[_END], slices=[])
