"""A row's next token, its end, and its text while it grows."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

LONGEST_PERIOD = 256
"""Tokens of the longest loop that is recognised: a paragraph, or a table's widest row."""
_PERIODS = np.arange(1, LONGEST_PERIOD + 1)
_REPEATS = np.clip(np.ceil(512 / _PERIODS), 3, 128)
"""How often each period must be seen. A page repeats itself too: dotted leaders, empty cells, the
rows of a blank form; so a loop must be 512 tokens long before it is called one. A single token, or
two, say so sooner (128 times), a paragraph later (3 times)."""
_LOOP = (_REPEATS - 1) * _PERIODS


@dataclass(frozen=True)
class Sampling:
    temperature: float = 0.0
    """0 is greedy."""
    generator: torch.Generator | None = None
    """On the logits' device; None draws from the device's own."""


GREEDY = Sampling()


def next_tokens(logits: Tensor, rows: Sequence[Sampling]) -> Tensor:
    """One token a row, [rows] int64, from logits [rows, vocabulary]; the device is not awaited.

    A greedy row takes the exact argmax. A sampled row draws from softmax(logits / temperature) by
    the Gumbel-max trick (Maddison et al., "A* Sampling", 2014): the argmax of logits / temperature
    - log(exponential noise), so that each row has its own generator and all share one argmax.
    """
    drawn = [row for row, sampling in enumerate(rows) if sampling.temperature > 0]
    if not drawn:
        return logits.max(-1).indices  # as argmax, which takes thrice as long in bfloat16 on a CPU
    temperatures = torch.tensor([sampling.temperature or 1.0 for sampling in rows])
    noise = torch.ones_like(logits, dtype=torch.float32)  # log 1 = 0: greedy rows stay as they are
    for row in drawn:
        noise[row].exponential_(generator=rows[row].generator)
    scores = logits.float() / temperatures.to(logits.device, non_blocking=True)[:, None]
    return (scores - noise.log_()).argmax(-1)


class Repetition:
    """Watches one row for a tail that is the same tokens over and over.

    For every period at once it counts how long the tail has equalled itself one period earlier:
    one comparison of `LONGEST_PERIOD` integers a token.
    """

    def __init__(self, max_new_tokens: int) -> None:
        self._tokens = np.full(LONGEST_PERIOD + max_new_tokens, -1)
        self._end = LONGEST_PERIOD
        self._equal = np.zeros(LONGEST_PERIOD, dtype=np.int64)

    def add(self, token: int) -> int | None:
        """How many tokens are left when the loop that `token` completes is cut to one period."""
        before = self._tokens[self._end - LONGEST_PERIOD : self._end][::-1]
        self._equal = np.where(before == token, self._equal + 1, 0)
        self._tokens[self._end] = token
        self._end += 1
        looping = self._equal >= _LOOP
        if not looping.any():
            return None
        return self._end - LONGEST_PERIOD - int(self._equal[looping.argmax()])


class Detokeniser:
    """Tokens of a byte-level vocabulary to whole characters, as they come.

    A token may end within a character, which then shows as U+FFFD at the end; it is held back until
    it is whole, so that only the tokens of the unfinished character are ever decoded again. Put
    together, the pieces are `whole` of the text of all tokens.
    """

    def __init__(self, text: Callable[[Sequence[int]], str]) -> None:
        self._text = text
        self._held: list[int] = []

    def add(self, token: int) -> str:
        """The characters that `token` completes; maybe none."""
        self._held.append(token)
        text = self._text(self._held)
        if text != whole(text):
            return ""
        self._held.clear()
        return text


def whole(text: str) -> str:
    """Without the character that the end has cut."""
    return text.rstrip("\ufffd")
