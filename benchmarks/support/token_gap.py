"""How long running rows wait for a token while large pages arrive."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from benchmarks.support.random_qwen import Asked
from benchmarks.support.schemes import TOKEN_GAP, encode, make_batcher, make_row
from runners.families.qwen_vl import QwenVl
from runners.scheduling.row import Row, Sampling
from tests.support.models.prompts import page

UNSLICED = 3600.0
"""Seconds of a token gap with which every prompt is computed in one prefill."""
_STEPS_ALONE = 10
_MOST_TOKENS = 2000
"""Tokens of a running row, more than it makes meanwhile."""


@dataclass(frozen=True)
class Gaps:
    """Longest times between two tokens of a row, and how fast the pages were read, in seconds."""

    alone: float
    """Before a page arrived."""
    with_pages: float
    """From the arrival of the first page to the first token of the last."""
    first_token: float
    """Mean time from a page's arrival to its first token."""


def measure_gaps(
    vlm: QwenVl, rows: int, pages: int, side: int, token_gap: float = TOKEN_GAP
) -> Gaps:
    """Has rows run, and lets square pages arrive one after the other.

    Each page arrives when the one before it has its first token. side: of a page, pixels.
    token_gap: seconds, `UNSLICED` for no slices. The rows draw their tokens, because a random model
    that takes the likeliest ones soon repeats itself, which ends a row.
    """
    if token_gap == UNSLICED:
        vlm.most_tokens = 2**30
    batcher = make_batcher(vlm, token_gap)
    # Encoded before the rows run: the service does it in threads of their own.
    large = [_row(vlm, side, rows + number, 2) for number in range(pages)]
    running = [_row(vlm, 200, number, _MOST_TOKENS) for number in range(rows)]
    times: list[list[float]] = [[] for _ in running]
    for row, own in zip(running, times, strict=True):
        row.on_token = lambda _, own=own: own.append(time.monotonic())
        batcher.submit(row)
    while not all(row.tokens for row in running):
        batcher.step()
    settled = time.monotonic()
    for _ in range(_STEPS_ALONE):
        batcher.step()
    arrived = time.monotonic()
    waits = []
    for row in large:
        submitted = time.monotonic()
        batcher.submit(row)
        while not row.tokens:
            batcher.step()
        waits.append(time.monotonic() - submitted)
    batcher.step()
    ended = [row for row in running if row.future.done()]
    batcher.close()
    assert not ended, "rows ended before the pages were read: the gaps say nothing"
    return Gaps(
        _longest(times, settled, arrived), _longest(times, arrived), sum(waits) / len(waits)
    )


def _row(vlm: QwenVl, side: int, seed: int, new_tokens: int) -> Row:
    asked = Asked(page(side, side, seed), "What is this?", new_tokens)
    return make_row(encode(vlm, asked), new_tokens, Sampling(1.0, seed=seed))


def _longest(times: Sequence[Sequence[float]], since: float, until: float = float("inf")) -> float:
    """The longest of the gaps that end within a span."""
    return max(
        later - earlier
        for own in times
        for earlier, later in pairwise(own)
        if since < later <= until
    )
