"""A row's next token, its end, and its text while it grows."""

import hashlib
import random
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

_GREEDY_BELOW = 1e-5
"""A temperature; far smaller ones are nothing in float32."""
_SCALE = 2**40
"""Weight of a row's likeliest token. What is rounded off is less than float32 rounds anyway, and a
vocabulary of eight million weights still adds up within int64."""
_DIGIT = 15  # bits; two such digits hold any float32 of [0, 1]


@dataclass(frozen=True)
class Sampling:
    temperature: float = 0.0
    """Below 1e-5 is greedy."""
    seed: int | None = None
    """Equal seeds draw equally."""
    top_p: float = 1.0
    """Nucleus sampling (Holtzman et al., 2020): draw from the likeliest tokens of this mass."""

    @property
    def is_greedy(self) -> bool:
        return self.temperature < _GREEDY_BELOW

    def uniform(self, step: int) -> float:
        """The number of [0, 1) that decides token number `step`: 24 bits, which float32 holds.

        With a seed it is a function of seed and step (counter-based: Salmon et al., "Parallel
        Random Numbers: As Easy as 1, 2, 3", SC 2011), so that a step that has to be repeated draws
        again what it drew.
        """
        if self.seed is None:
            bits = random.getrandbits(24)
        else:
            counter = f"{self.seed} {step}".encode()
            bits = int.from_bytes(hashlib.blake2b(counter, digest_size=3).digest(), "big")
        return bits / 2**24


GREEDY = Sampling()


@dataclass(frozen=True)
class Draws:
    """What a step's sampled rows draw with, on the device."""

    parameters: Tensor
    """[4, sampled rows] float64, one upload: index, temperature, uniform number, top_p."""
    nuclei: int
    """How many of them have a top_p below 1; they come first."""


def make_draws(rows: Sequence[tuple[Sampling, int]], device: torch.device) -> Draws | None:
    """Of each row its sampling and the number of its next token; None where all rows are greedy.

    To be made before the forward is enqueued: memory that is not pinned is copied once the stream
    is empty, as it is then, so that a step waits for nothing but its tokens.
    """
    drawn = [
        (row, sampling.temperature, sampling.uniform(step), sampling.top_p)
        for row, (sampling, step) in enumerate(rows)
        if not sampling.is_greedy
    ]
    if not drawn:
        return None
    drawn.sort(key=lambda parameters: parameters[-1] >= 1)
    parameters = torch.tensor(drawn, dtype=torch.float64).T.contiguous()
    nuclei = sum(top_p < 1 for *_, top_p in drawn)
    return Draws(parameters.to(device, non_blocking=True), nuclei)


def next_tokens(logits: Tensor, draws: Draws | None) -> Tensor:
    """One token a row, [rows] int64, from logits [rows, vocabulary]; the device is not awaited.

    A greedy row takes the exact argmax. A sampled row draws from softmax(logits / temperature) by
    the inverse of its cumulative distribution: the first token at which the sum of the
    probabilities passes the row's uniform number.

    The probabilities are float32, their sums integers of `_SCALE`: those are exact in whatever
    order a device adds them, never fall, and rise only where a token has a weight, so that neither
    a token of no probability is drawn nor one past the end. NaN counts as the likeliest, as argmax
    has it.
    """
    if draws is None or draws.parameters.shape[1] < len(logits):
        chosen = logits.max(-1).indices  # argmax takes thrice as long in bfloat16 on a CPU
    else:
        chosen = torch.empty(len(logits), dtype=torch.long, device=logits.device)
    if draws is None:
        return chosen
    rows, temperatures, uniforms, top_p = draws.parameters
    rows = rows.long()
    scores = logits[rows].float()  # a copy, to be worked on in place
    scores.sub_(scores.amax(-1, keepdim=True)).div_(temperatures.float()[:, None])
    likeliness = scores.exp_().nan_to_num_(1.0)
    weights = (likeliness * _SCALE).long()
    if nuclei := draws.nuclei:
        keep_nucleus(weights[:nuclei], likeliness[:nuclei], top_p[:nuclei])
    sums = weights.cumsum_(-1)
    drawn = torch.searchsorted(sums, (sums[:, -1] * uniforms).long()[:, None], right=True)
    chosen[rows] = drawn[:, 0]
    return chosen


def keep_nucleus(weights: Tensor, likeliness: Tensor, top_p: Tensor) -> None:
    """Zero, in place, the weights of all but the fewest likeliest tokens whose sum reaches `top_p`.

    weights: [rows, vocabulary] int64, of likeliness [rows, vocabulary] float32 in [0, 1].
    top_p: [rows] float64; the likeliest token is kept even at 0. Of equally likely tokens the first
    are kept.

    No sort, which takes several times as long, and no look at how far the first thousand tokens
    reach, which a GPU would have to be awaited for: a radix select. The bits of positive floats are
    in the order of the floats. Adding up the weights by the upper half of the bits, then by the
    lower half within the bucket where the sum reaches `top_p`, finds the least likely token that is
    kept, at the same cost for every distribution.
    """
    keys = ~likeliness.view(torch.int32)  # all negative, the likeliest first
    wanted = (weights.sum(-1, keepdim=True) * top_p[:, None]).ceil().long().clamp_(min=1)
    edge = torch.full_like(keys[:, :1], -1)
    for shift in (_DIGIT, 0):
        # What is before the bucket of the edge counts in place 0, what is behind it in the last.
        places = ((keys >> shift) - (edge << _DIGIT)).clamp_(-1, 1 << _DIGIT).add_(1)
        sums = weights.new_zeros(len(weights), (1 << _DIGIT) + 2)
        sums.scatter_add_(1, places.long(), weights).cumsum_(-1)
        place = torch.searchsorted(sums, wanted)
        edge = edge << _DIGIT | (place - 1).int()
    likelier = sums.gather(1, place - 1)
    tied = weights.masked_fill(keys != edge, 0)
    last = torch.searchsorted(tied.cumsum_(-1), wanted - likelier, out_int32=True)
    tokens = torch.arange(keys.shape[1], dtype=torch.int32, device=keys.device)
    weights.masked_fill_((keys > edge) | (keys == edge) & (tokens > last), 0)


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
