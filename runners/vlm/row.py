"""A row: one request's prompt, its limits, and the tokens made so far. Imports no torch."""

import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from common.deadline import Deadline
from common.messages import FinishReason
from runners.vlm.repetition import Repetition

if TYPE_CHECKING:  # the tensors are for the batcher; the scheduler only asks for their length
    from runners.vlm.interface import Encoded
    from runners.vlm.sampling import Sampling


@dataclass(frozen=True)
class Finished:
    """The tokens of a row that has ended, and why it ended."""

    tokens: list[int]
    """Without the stop token; of a loop, only the first period."""
    reason: FinishReason


@dataclass(eq=False)
class Row:
    """One request to the model, from its submission to its result; cancel `future` to cancel it."""

    encoded: "Encoded"
    max_new_tokens: int
    deadline: Deadline
    """When it passes, a waiting row is refused, and a running row ends with the tokens it has."""
    sampling: "Sampling"
    on_token: Callable[[int], object] | None = None
    """Called in the batcher's thread with every token but the stop token; must not raise."""
    future: Future[Finished] = field(default_factory=Future)
    """Completes exactly once: with the result, a `Refusal`, or the exception of the model."""

    tokens: list[int] = field(default_factory=list, init=False)
    """New tokens only, without the prompt."""
    repetition: Repetition = field(init=False)
    first_position: int = field(default=0, init=False)
    """Position index of the first new token, known after the prefill."""
    submitted: float = field(default_factory=time.monotonic, init=False)
    started: float = field(default=0.0, init=False)
    """When its last prefill began, in seconds of `time.monotonic`."""
    prefills: int = field(default=0, init=False)
    """How often its prefill began; more than once only if memory ran out."""

    def __post_init__(self) -> None:
        self.repetition = Repetition(self.max_new_tokens)

    @property
    def position(self) -> int:
        """Position index of the newest token."""
        return self.first_position + len(self.tokens) - 1

    @property
    def max_columns(self) -> int:
        """Columns of the KV cache that the row needs if it uses all its new tokens."""
        return self.encoded.length + self.max_new_tokens

    def take(self, token: int, stop_tokens: frozenset[int]) -> FinishReason | None:
        """Append a token. Returns the reason if the row ends with it."""
        if token in stop_tokens:
            return "stop"
        self.tokens.append(token)
        if self.on_token is not None:
            self.on_token(token)
        kept = self.repetition.add(token)
        if kept is not None:
            del self.tokens[kept:]
            return "repetition"
        if len(self.tokens) == self.max_new_tokens:
            return "length"
        return "deadline" if self.deadline.passed else None
