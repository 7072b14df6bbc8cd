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
    top_p: float = 1.0
    """Nucleus sampling (Holtzman et al., 2020): draw from the likeliest tokens of this mass."""


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
    for row in drawn:
        if rows[row].top_p < 1:
            _keep_nucleus(scores[row], rows[row].top_p)
    return (scores - noise.log_()).argmax(-1)


def _keep_nucleus(scores: Tensor, top_p: float) -> None:
    """Hide, in place, all but the fewest likeliest tokens whose probabilities reach `top_p`.

    scores: [vocabulary].
    """
    ordered, tokens = scores.sort(descending=True)
    mass = ordered.softmax(-1).cumsum(-1)
    beyond = mass.roll(1) >= top_p  # what is likelier has reached it
    beyond[0] = False
    scores[tokens] = ordered.masked_fill_(beyond, -torch.inf)


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


class StopTexts:
    """Ends a text before the first of some texts, wherever its pieces are cut.

    What may be the beginning of a stop text is held back.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = stops
        self._held = ""
        self.met = False

    def add(self, piece: str) -> str:
        """What may be shown now."""
        text = self._held + piece
        found = [place for stop in self._stops if (place := text.find(stop)) >= 0]
        if found:
            self.met = True
            self._held = ""
            return text[: min(found)]
        held = max((_begun(text, stop) for stop in self._stops), default=0)
        self._held = text[len(text) - held :]
        return text[: len(text) - held]

    def rest(self) -> str:
        """What was held back, where nothing more comes."""
        return self._held


def _begun(text: str, stop: str) -> int:
    """Characters at the end of the text that are the beginning of `stop`."""
    return next((n for n in range(len(stop) - 1, 0, -1) if text.endswith(stop[:n])), 0)


def whole(text: str) -> str:
    """Without the character that the end has cut."""
    return text.rstrip("\ufffd")
