"""Chooses the next token of each row from its logits: the likeliest, or one at random."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from runners.constraints.masks import apply_masks
from runners.sampling.logprobs import find_logprobs, read_logprobs
from runners.sampling.penalties import PenalisedRows, Penalties, penalise
from runners.scheduling.row import Logprobs, Row

_SCALE = 2**40
"""Integer weight of a row's likeliest token. Rounding to integers loses less than float32 does, and
the weights of a vocabulary of up to eight million tokens add up within int64."""
NO_TOKEN = -1
"""Stands for the token of a row whose logits are not numbers."""
_DIGIT = 15  # bits; two such digits hold any float32 of [0, 1]


@dataclass(frozen=True)
class Draws:
    """What a step needs, on the device, for the rows that are not just greedy: `worked` rows."""

    parameters: Tensor
    """[6, worked rows] float64: row, temperature, uniform number, top_p, top_k, min_p."""
    nuclei: int
    """The first so many worked rows have a top_p below 1."""
    truncated: int
    """The first so many draw from a part of the vocabulary."""
    sampled: int
    """The first so many draw; the others are greedy."""
    largest_k: int
    """The largest top_k."""
    banned: Tensor | None = None
    """[pairs, 2] int64: worked row, and a token that it may not take."""
    penalised: PenalisedRows | None = None
    told: Tensor | None = None
    """[rows] int64, the rows whose log probabilities are wanted."""
    alternatives: int = 0
    """The largest number of likeliest tokens that are wanted."""


class Sampler:
    """Chooses the tokens of a batch. It knows which tokens each row has had."""

    def __init__(self, device: torch.device, stop_tokens: frozenset[int]) -> None:
        self._device = device
        self._stop_tokens = sorted(stop_tokens)
        self._penalties = Penalties(device)

    def forget(self) -> None:
        """Drop what is kept about rows; it is made again for a row that comes back."""
        self._penalties.forget()

    def prepare(self, rows: Sequence[Row]) -> Draws | None:
        """Uploads what the next tokens of the rows depend on; None if the likeliest are taken.

        It has to be called before the forward is enqueued: the copy of memory that is not pinned
        waits until the stream is empty. It is empty then, so that a step waits only for its tokens.
        """
        worked = [(place, row) for place, row in enumerate(rows) if _is_worked(row)]
        told = [place for place, row in enumerate(rows) if row.sampling.logprobs is not None]
        if not worked and not told:
            self.forget()
            return None
        worked.sort(key=lambda entry: _order(entry[1]))
        samplings = [row.sampling for _, row in worked]
        drawing = [sampling for sampling in samplings if not sampling.is_greedy]
        parameters = [
            (
                place,
                row.sampling.temperature,
                row.sampling.uniform(len(row.tokens)),
                row.sampling.top_p,
                row.sampling.top_k,
                row.sampling.min_p,
            )
            for place, row in worked
        ]
        banned = [
            (place, token)
            for place, (_, row) in enumerate(worked)
            if len(row.tokens) < row.sampling.min_tokens
            for token in self._stop_tokens
        ]
        numbers = [number for entry in (*parameters, *banned, told) for number in entry]
        uploaded = torch.tensor(numbers, dtype=torch.float64).to(self._device, non_blocking=True)
        parts = uploaded.split([6 * len(parameters), 2 * len(banned), len(told)])
        return Draws(
            parameters=parts[0].view(-1, 6).T,
            nuclei=sum(sampling.top_p < 1 for sampling in drawing),
            truncated=sum(sampling.truncates for sampling in drawing),
            sampled=len(drawing),
            largest_k=max((sampling.top_k for sampling in drawing), default=0),
            banned=parts[1].view(-1, 2).long() if banned else None,
            penalised=self._penalties.prepare(
                [(n, row) for n, (_, row) in enumerate(worked) if row.sampling.penalises]
            ),
            told=parts[2].long() if told else None,
            alternatives=max((rows[place].sampling.logprobs or 0 for place in told), default=0),
        )


def _is_worked(row: Row) -> bool:
    sampling = row.sampling
    return not sampling.is_greedy or sampling.penalises or len(row.tokens) < sampling.min_tokens


def _order(row: Row) -> int:
    """Rows with a nucleus come first, then others that draw from a part, that draw, greedy ones."""
    sampling = row.sampling
    if sampling.is_greedy:
        return 3
    return 0 if sampling.top_p < 1 else 1 if sampling.truncates else 2


Chosen = tuple[int, Logprobs | None]
"""A token, and its log probabilities if they are wanted."""


@dataclass(frozen=True)
class Choices:
    """The next tokens of a batch's rows, while a device may still compute them."""

    numbers: Tensor
    """The tokens, or in float64 the rows that are told, the tokens, their log probabilities."""
    rows: int
    told: int = 0
    """Of how many rows the log probabilities are wanted."""

    def read(self) -> list[Chosen]:
        """The choice of each row. It waits for the device, once."""
        read = self.numbers.tolist()
        if not self.told:
            return [(token, None) for token in read]
        told, rest = map(int, read[: self.told]), read[self.told :]
        logprobs = dict(zip(told, read_logprobs(rest[self.rows :], self.told), strict=True))
        return [(int(token), logprobs.get(row)) for row, token in enumerate(rest[: self.rows])]


def choose(logits: Tensor, draws: Draws | None, masks: Tensor | None = None) -> Choices:
    """Returns the next token of each row, and the log probabilities that are wanted.

    masks: [rows, words] int32, see `MaskMaker.make`. It changes the logits of masked rows in place.

    It does not wait for the device. The log probabilities are those of the model: of the logits
    without masks, penalties, temperature and all else.
    """
    if draws is None or draws.told is None:
        tokens = next_tokens(apply_masks(logits, masks), draws)
        return Choices(tokens, len(tokens))
    raw = logits[draws.told]  # a copy
    tokens = next_tokens(apply_masks(logits, masks), draws)
    found = find_logprobs(raw, tokens[draws.told], draws.alternatives)
    numbers = torch.cat([draws.told.double(), tokens.double(), found.view(-1)])
    return Choices(numbers, len(tokens), len(draws.told))


def next_tokens(logits: Tensor, draws: Draws | None) -> Tensor:
    """Returns one token a row, [rows] int64, from logits [rows, vocabulary].

    It does not wait for the device.

    A row with a logit that is NaN gets `NO_TOKEN`. That needs no second look at the logits, because
    the maximum of such a row is NaN.

    A greedy row takes the exact argmax. A row with penalties takes it, or draws, from the logits
    that they leave. A sampled row draws from softmax(logits / temperature) by the inverse of its
    cumulative distribution: the first token at which the sum of the probabilities passes the row's
    uniform number. What `top_k` and `min_p` leave is cut further by `top_p`, as in vLLM.

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
    if draws is None or not draws.parameters.shape[1]:
        return chosen
    rows, temperatures, uniforms, top_p, top_k, min_p = draws.parameters
    rows = rows.long()
    scores = logits[rows].float()  # a copy, to be worked on in place
    if draws.banned is not None:
        _ban(scores, draws.banned)
    if draws.penalised is not None:
        penalise(scores, draws.penalised)
    sampled = draws.sampled
    highest, best = scores.max(-1, keepdim=True)
    if sampled:
        best[:sampled] = _draw(
            scores[:sampled].sub_(highest[:sampled]).div_(temperatures[:sampled, None].float()),
            uniforms[:sampled],
            draws,
            top_p,
            top_k,
            min_p,
        )
    chosen[rows] = best.masked_fill_(highest.isnan(), NO_TOKEN)[:, 0]
    return chosen


def _ban(scores: Tensor, banned: Tensor) -> None:
    """Takes away, in place, the tokens that rows may not take: [pairs, 2] int64, row and token.

    A row that could take no other keeps them: a grammar that is complete wins over `min_tokens`.
    """
    rows, tokens = banned.T
    before = scores[rows, tokens]
    scores[rows, tokens] = -torch.inf
    is_empty = scores.amax(-1) == -torch.inf
    scores[rows, tokens] = before.masked_fill_(~is_empty[rows], -torch.inf)


def _draw(
    scores: Tensor, uniforms: Tensor, draws: Draws, top_p: Tensor, top_k: Tensor, min_p: Tensor
) -> Tensor:
    """Returns a token a row, [rows, 1] int64, drawn from scores of which the highest are 0.

    It works in place.
    """
    likeliness = scores.exp_().nan_to_num_(1.0)  # infinity minus infinity is NaN
    weights = (likeliness * _SCALE).long()
    if count := draws.truncated:
        least = min_p[:count, None].float()
        if draws.largest_k:
            least = torch.maximum(least, _least_of(likeliness[:count], top_k[:count], draws))
        weights[:count].masked_fill_(likeliness[:count] < least, 0)
    if nuclei := draws.nuclei:
        keep_nucleus(weights[:nuclei], likeliness[:nuclei], top_p[:nuclei])
    sums = weights.cumsum_(-1)
    return torch.searchsorted(sums, (sums[:, -1] * uniforms).long()[:, None], right=True)


def _least_of(likeliness: Tensor, top_k: Tensor, draws: Draws) -> Tensor:
    """Returns how likely the least likely of the `top_k` tokens is, [rows, 1]; 0 without a top_k.

    Tokens that are as likely as that one are kept too, as vLLM and transformers keep them.
    """
    largest = min(draws.largest_k, likeliness.shape[1])
    sorted_down = likeliness.topk(largest).values
    last = (top_k.long()[:, None] - 1).clamp_(min=0, max=largest - 1)
    return sorted_down.gather(1, last).masked_fill_(top_k[:, None] == 0, 0)


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
