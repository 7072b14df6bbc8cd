"""Finds the log probabilities of the tokens that were chosen, and of the likeliest ones."""

from collections.abc import Callable, Iterable, Iterator, Sequence

import torch
from torch import Tensor

from common.messages import ChosenToken, TokenLogprob
from runners.scheduling.row import Logprobs

_LEAST = -9999.0
"""Stands for the log probability of a token that is impossible, because JSON has no infinity."""


def find_logprobs(logits: Tensor, tokens: Tensor, alternatives: int) -> Tensor:
    """Returns, for each row, [rows, 1 + 2 x alternatives] float64: the log probability of its
    token, the likeliest tokens, and their log probabilities.

    logits: [rows, vocabulary]. tokens: [rows] int64. It does not wait for the device.
    """
    logits = logits.float()
    total = logits.logsumexp(-1, keepdim=True)
    chosen = logits.gather(1, tokens.clamp(min=0)[:, None]) - total
    likeliest = logits.topk(min(alternatives, logits.shape[1]))
    found = (chosen, likeliest.indices, likeliest.values - total)
    return torch.cat([part.double() for part in found], -1)


def read_logprobs(numbers: Sequence[float], rows: int) -> Iterator[Logprobs]:
    """Turns the numbers of `find_logprobs`, as the host has them, into the rows' values."""
    width = len(numbers) // rows
    count = width // 2
    for start in range(0, len(numbers), width):
        chosen, *rest = numbers[start : start + width]
        yield Logprobs(chosen, tuple(zip(map(int, rest[:count]), rest[count:], strict=True)))


def chosen_tokens(
    tokens: Iterable[int], logprobs: Iterable[Logprobs], data: Callable[[int], bytes]
) -> tuple[ChosenToken, ...]:
    """Turns tokens and their log probabilities into what an answer tells of them.

    data: the UTF-8 of a token.
    """
    return tuple(
        ChosenToken(
            data=data(token),
            logprob=max(found.chosen, _LEAST),
            likeliest=tuple(
                TokenLogprob(data=data(other), logprob=max(value, _LEAST))
                for other, value in found.likeliest
            ),
        )
        for token, found in zip(tokens, logprobs, strict=True)
    )
