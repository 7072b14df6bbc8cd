"""A row: one request's prompt, its limits, and the tokens made so far."""

import hashlib
import random
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Protocol

from common.deadline import Deadline
from common.messages import FinishReason
from runners.scheduling.repetition import Repetition

_GREEDY_BELOW = 1e-5
"""Temperatures below this count as greedy: much smaller ones underflow in float32."""


@dataclass(frozen=True)
class Sampling:
    """How the tokens of a row are chosen, as its request asks."""

    temperature: float = 0.0
    """Below 1e-5 is greedy: the likeliest token is taken."""
    seed: int | None = None
    """Rows with equal seeds draw equal tokens; None draws at random."""
    top_p: float = 1.0
    """Nucleus sampling (Holtzman et al., 2020): draw from the likeliest tokens of this mass."""
    top_k: int = 0
    """Draw from so many of the likeliest tokens, and those as likely as the last; 0: from all."""
    min_p: float = 0.0
    """Draw from the tokens that are at least this likely, the likeliest one counting as 1."""
    repetition_penalty: float = 1.0
    """The logits of the tokens of prompt and answer are divided by it; negative ones multiplied."""
    frequency_penalty: float = 0.0
    """The logit of a token is lowered by it for every time that the answer has it."""
    presence_penalty: float = 0.0
    """The logits of the tokens that the answer has are lowered by it."""
    min_tokens: int = 0
    """The answer has at least so many tokens before it ends by itself."""
    logprobs: int | None = None
    """Of how many of the likeliest tokens the log probabilities are wanted beside those of the
    tokens that were chosen; None wants none."""

    @property
    def is_greedy(self) -> bool:
        return self.temperature < _GREEDY_BELOW

    @property
    def truncates(self) -> bool:
        """Whether it draws from a part of the vocabulary."""
        return self.top_p < 1 or self.top_k > 0 or self.min_p > 0

    @property
    def penalises(self) -> bool:
        """Whether logits depend on the tokens that were there before."""
        return (
            self.repetition_penalty != 1
            or self.frequency_penalty != 0
            or self.presence_penalty != 0
        )

    def uniform(self, step: int) -> float:
        """Returns the number of [0, 1), of 24 bits, with which token number `step` is drawn.

        With a seed it depends on seed and step alone, so that a repeated step draws the same token
        (a counter-based generator: Salmon et al., "Parallel Random Numbers: As Easy as 1, 2, 3",
        SC 2011).
        """
        if self.seed is None:
            bits = random.getrandbits(24)
        else:
            counter = f"{self.seed} {step}".encode()
            bits = int.from_bytes(hashlib.blake2b(counter, digest_size=3).digest(), "big")
        return bits / 2**24


GREEDY = Sampling()


@dataclass(frozen=True)
class Logprobs:
    """The log probabilities of a token that was chosen, and of the likeliest ones in its place."""

    chosen: float
    likeliest: tuple[tuple[int, float], ...]
    """Tokens, the likeliest first."""


class Prompt(Protocol):
    """What scheduling asks of a prompt; the batcher gives `runners.vlm.interface.Encoded`."""

    @property
    def length(self) -> int:
        """Tokens."""

    @property
    def visual_tokens(self) -> int:
        """How many of them are an image's."""

    @property
    def prefix_length(self) -> int:
        """Number of leading tokens up to the last image token; 0 without an image."""

    @property
    def prefix_key(self) -> bytes:
        """Prompts with equal keys have equal keys and values in the columns of the prefix."""


class Guide(Protocol):
    """Holds a row to a grammar; the batcher gives `runners.constraints.guide.Guide`."""

    def take(self, token: int) -> None:
        """Goes on behind a token that it has allowed."""

    @property
    def is_complete(self) -> bool:
        """Whether no token may follow."""


@dataclass(frozen=True)
class Finished:
    """The tokens of a row that has ended, and why it ended."""

    tokens: list[int]
    """Without the stop token, and without those that only repeat what was before them."""
    reason: FinishReason
    made: int
    """How many tokens were made, those of a loop included."""
    logprobs: list[Logprobs] = field(default_factory=list)
    """Of each token, if they were asked for."""


@dataclass(eq=False)
class Row:
    """One request to the model, from its submission to its result; cancel `future` to cancel it."""

    encoded: Prompt
    max_new_tokens: int
    deadline: Deadline
    """When it passes, a waiting row is refused, and a running row ends with the tokens it has."""
    sampling: Sampling
    on_token: Callable[[int], object] | None = None
    """Called in the batcher's thread with every token of the answer, as soon as it is known to be
    no part of a loop; must not raise."""
    guide: Guide | None = None
    """What its tokens are held to. Such a row ends when the guide is complete."""
    future: Future[Finished] = field(default_factory=Future)
    """Completes exactly once: with the result, a `Refusal`, or the exception of the model."""

    siblings: "Sequence[Row]" = ()
    """Rows with the same prompt, this one among them, which share its blocks: those of a request
    for several answers."""

    tokens: list[int] = field(default_factory=list, init=False)
    """New tokens only, without the prompt."""
    logprobs: list[Logprobs] = field(default_factory=list, init=False)
    """Of each new token, if they were asked for."""
    handed_over: int = field(default=0, init=False)
    """How many of them `on_token` has got."""
    repetition: Repetition = field(init=False)
    blocks: list[int] = field(default_factory=list, init=False)
    """The blocks of the KV cache that it has, in the order of its columns; empty while it waits."""
    computed: int = field(default=0, init=False)
    """How many of its columns are computed."""
    features: object = field(default=None, init=False)
    """What the vision tower made of its images, until its prompt is computed."""
    submitted: float = field(default_factory=time.monotonic, init=False)
    started: float = field(default=0.0, init=False)
    """When it last got its blocks, in seconds of `time.monotonic`; 0 before that."""
    failures: int = field(default=0, init=False)
    """How often memory ran out while it was alone."""

    def __post_init__(self) -> None:
        self.repetition = Repetition(self.max_new_tokens)

    @property
    def columns(self) -> int:
        """Columns of the KV cache that all its tokens take, the newest included."""
        return self.encoded.length + len(self.tokens)

    @property
    def lacks_features(self) -> bool:
        """Whether its images have to pass the vision tower before its next columns are computed."""
        waits = self.features is None and self.computed < self.encoded.prefix_length
        return waits and self.encoded.visual_tokens > 0

    def take(
        self,
        token: int,
        logprobs: Logprobs | None,
        stop_tokens: frozenset[int],
        text: Callable[[Sequence[int]], str],
    ) -> FinishReason | None:
        """Append a token. Returns the reason if the row ends with it.

        text: the text of tokens.
        """
        reason: FinishReason | None = None
        if token in stop_tokens:
            reason = "stop"
        else:
            if logprobs is not None:
                self.logprobs.append(_as_asked(logprobs, self.sampling))
            self.tokens.append(token)
            self.repetition.add(token)
            if self.guide is not None:
                self.guide.take(token)
            if self.guide is not None and self.guide.is_complete:
                reason = "stop"
            elif len(self.tokens) == self.max_new_tokens:
                reason = "length"
            elif self.deadline.passed:
                reason = "deadline"
        # What ends by itself was no endless loop.
        if reason != "stop" and self.repetition.is_endless(text, is_cut=reason is not None):
            reason = "repetition"
        ends = reason is not None and reason != "repetition"
        self._hand_over(len(self.tokens) if ends else self.repetition.shown)
        return reason

    def result(self, reason: FinishReason) -> Finished:
        """What the row has made, if it ends for this reason now."""
        count = self.handed_over
        return Finished(self.tokens[:count], reason, len(self.tokens), self.logprobs[:count])

    def _hand_over(self, count: int) -> None:
        """Let `on_token` have the first `count` tokens."""
        if self.on_token is not None:
            for token in self.tokens[self.handed_over : count]:
                self.on_token(token)
        self.handed_over = count


def _as_asked(logprobs: Logprobs, sampling: Sampling) -> Logprobs:
    """Without the tokens that only another row of the batch asked for."""
    return Logprobs(logprobs.chosen, logprobs.likeliest[: sampling.logprobs])
