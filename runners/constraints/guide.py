"""Holds the tokens of one row to a grammar."""

from llguidance import LLMatcher, LLTokenizer

from common.constraints.json_schemas import LIMITS
from common.failures import ErrorCode, Refusal


class Guide:
    """Knows which tokens may follow those of a row. For one thread at a time."""

    def __init__(self, vocabulary: LLTokenizer, grammar: str) -> None:
        """Compiles the grammar, which takes up to a second, without the interpreter's lock.

        Raises `Refusal` (BAD_PARAMETER) if it cannot be compiled.
        """
        self.vocabulary_size = vocabulary.vocab_size
        self.matcher = LLMatcher(vocabulary, grammar, log_level=0, limits=LIMITS)
        if self.matcher.is_error():
            raise too_complex()

    def take(self, token: int) -> None:
        """Goes on behind a token that the mask has allowed."""
        self.matcher.consume_token(token)

    @property
    def is_complete(self) -> bool:
        """Whether the text fits the grammar, and no token may follow."""
        return self.matcher.is_stopped() and not self.has_failed

    @property
    def has_failed(self) -> bool:
        """Whether it can no longer tell what may follow: the grammar is beyond its limits."""
        return self.matcher.is_error()


def too_complex() -> Refusal:
    return Refusal(
        ErrorCode.BAD_PARAMETER,
        "The schema or grammar is too complex to hold an answer to, or no text fits it: "
        "make it simpler.",
    )
