"""Chooses the next token of each row from its logits: the likeliest, or one at random."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from runners.scheduling.row import Sampling

_SCALE = 2**40
"""Integer weight of a row's likeliest token. Rounding to integers loses less than float32 does, and
the weights of a vocabulary of up to eight million tokens add up within int64."""
NO_TOKEN = -1
"""Stands for the token of a row whose logits are not numbers."""
_DIGIT = 15  # bits; two such digits hold any float32 of [0, 1]


@dataclass(frozen=True)
class Draws:
    """The parameters with which the sampled rows of a step draw, on the device."""

    parameters: Tensor
    """[4, sampled rows] float64, one upload: index, temperature, uniform number, top_p."""
    nuclei: int
    """How many of the sampled rows have a top_p below 1; they come first."""


def make_draws(rows: Sequence[tuple[Sampling, int]], device: torch.device) -> Draws | None:
    """Uploads the parameters with which the rows of a step draw; None if all rows are greedy.

    rows: the sampling of each row, and the number of its next token.

    It has to be called before the forward is enqueued: the copy of memory that is not pinned waits
    until the stream is empty. It is empty then, so that a step waits only for its tokens.
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
    """Returns one token a row, [rows] int64, from logits [rows, vocabulary].

    It does not wait for the device.

    A row with a logit that is NaN gets `NO_TOKEN`. That needs no second look at the logits, because
    the maximum of such a row is NaN.

    A greedy row takes the exact argmax. A sampled row draws from softmax(logits / temperature) by
    the inverse of its cumulative distribution: the first token at which the sum of the
    probabilities passes the row's uniform number.

    The probabilities are float32, but integers (see `_SCALE`) are added up: their sums are exact
    in whatever order a device adds them, and rise only where a token has a weight. So no token
    without probability is drawn, and none past the end. Infinity counts as the likeliest, as in
    argmax.
    """
    if draws is None or draws.parameters.shape[1] < len(logits):
        # argmax takes three times as long in bfloat16 on a CPU.
        highest, likeliest = logits.max(-1)
        chosen = likeliest.masked_fill_(highest.isnan(), NO_TOKEN)
    else:
        chosen = torch.empty(len(logits), dtype=torch.long, device=logits.device)
    if draws is None:
        return chosen
    rows, temperatures, uniforms, top_p = draws.parameters
    rows = rows.long()
    scores = logits[rows].float()  # a copy, to be worked on in place
    highest = scores.amax(-1, keepdim=True)
    scores.sub_(highest).div_(temperatures.float()[:, None])
    likeliness = scores.exp_().nan_to_num_(1.0)  # infinity minus infinity is NaN
    weights = (likeliness * _SCALE).long()
    if nuclei := draws.nuclei:
        keep_nucleus(weights[:nuclei], likeliness[:nuclei], top_p[:nuclei])
    sums = weights.cumsum_(-1)
    drawn = torch.searchsorted(sums, (sums[:, -1] * uniforms).long()[:, None], right=True)
    chosen[rows] = drawn.masked_fill_(highest.isnan(), NO_TOKEN)[:, 0]
    return chosen


def keep_nucleus(weights: Tensor, likeliness: Tensor, top_p: Tensor) -> None:
    """Zeroes, in place, the weights of all but the fewest likeliest tokens that reach `top_p`.

    weights: [rows, vocabulary] int64, of likeliness [rows, vocabulary] float32 in [0, 1].
    top_p: [rows] float64; the likeliest token is kept even at 0. Of equally likely tokens the first
    are kept.

    This is a radix select: the bits of positive floats are in the order of the floats. Adding up
    the weights by the upper half of the bits, then by the lower half within the bucket where the
    sum reaches `top_p`, finds the least likely token that is kept, at the same cost for every
    distribution. A sort takes several times as long; looking at the thousand likeliest tokens first
    would have to wait for a GPU.
    """
    keys = ~likeliness.view(torch.int32)  # all negative, the likeliest first
    wanted = (weights.sum(-1, keepdim=True) * top_p[:, None]).ceil().long().clamp_(min=1)
    edge = torch.full_like(keys[:, :1], -1)
    for shift in (_DIGIT, 0):
        # Tokens before the bucket of the edge count in place 0, tokens after it in the last place.
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
