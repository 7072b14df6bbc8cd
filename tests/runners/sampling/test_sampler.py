import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from transformers import (
    LogitsProcessorList,
    MinPLogitsWarper,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from runners.sampling.logprobs import find_logprobs
from runners.sampling.sampler import NO_TOKEN, Draws, Sampler, choose, keep_nucleus, next_tokens
from runners.scheduling.row import GREEDY, Row, Sampling
from tests.support.models.batching import make_row
from tests.support.models.text_vlm import encode

CPU = torch.device("cpu")
PROMPT = encode(range(5))
LAST = 1 - 2**-24
"""The largest uniform number."""


def row_of(sampling: Sampling, step: int = 0) -> Row:
    """A row that has made so many tokens."""
    row = make_row(PROMPT, 1, sampling=sampling)
    row.tokens += [0] * step
    return row


def prepared(*rows: Row, device: torch.device = CPU, stops: tuple[int, ...] = ()) -> Draws | None:
    return Sampler(device, frozenset(stops)).prepare(rows)


def drawn(logits: Tensor, *rows: Sampling, step: int = 0) -> Tensor:
    return next_tokens(logits, prepared(*(row_of(sampling, step) for sampling in rows)))


def shares(logits: Tensor, sampling: Sampling, draws: int) -> Tensor:
    """How often each token of logits [vocabulary] is drawn, as parts of 1."""
    rows = [row_of(replace(sampling, seed=seed)) for seed in range(1000)]
    tokens = []
    for _ in range(draws // 1000):
        tokens.append(next_tokens(logits.expand(1000, -1), prepared(*rows)))
        for row in rows:
            row.tokens.append(0)
    return torch.cat(tokens).bincount(minlength=len(logits)) / draws


def at(logits: Tensor, uniform: float, temperature: float = 1.0, top_p: float = 1.0) -> Tensor:
    """The token that this uniform number draws for each row."""
    rows = len(logits)
    parameters = torch.tensor(
        [(row, temperature, uniform, top_p, 0, 0) for row in range(rows)], dtype=torch.float64
    ).T
    part = rows if top_p < 1 else 0
    return next_tokens(logits, Draws(parameters, part, part, rows, 0))


DTYPES = [torch.float32, torch.bfloat16, torch.float16]


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_greedy_row_takes_the_argmax_beside_any_neighbour(dtype):
    logits = torch.randn(4, 50).to(dtype)
    best = logits.argmax(-1)
    assert torch.equal(drawn(logits, *[GREEDY] * 4), best)
    mixed = drawn(logits, GREEDY, Sampling(2.0, 0), GREEDY, Sampling(2.0, 1, 0.9))
    assert torch.equal(mixed[::2], best[::2])


def test_rows_that_are_all_greedy_have_nothing_to_upload():
    assert prepared(row_of(GREEDY), row_of(Sampling(9e-6, 1, 0.5, 3, 0.1))) is None


@pytest.mark.parametrize("temperature", [1e-60, 1e-40, 1e-38, 9e-6, 1e-5])
def test_a_tiny_temperature_takes_the_argmax(temperature):
    logits = 10 * torch.randn(8, 500, generator=torch.Generator().manual_seed(0))
    rows = [Sampling(temperature, seed) for seed in range(8)]
    assert torch.equal(drawn(logits, *rows), logits.argmax(-1))


def test_a_seeded_row_draws_the_same_whoever_its_neighbours_are():
    logits = torch.randn(4, 50)
    for top_p in (1.0, 0.8):
        rows = [Sampling(1.0, seed, top_p) for seed in range(20)]
        alone = [drawn(logits[1:2], row).item() for row in rows]
        others = Sampling(0.5, 99), Sampling(0.5, None, 0.5)
        among = [drawn(logits, others[0], row, GREEDY, others[1])[1].item() for row in rows]
        moved = [drawn(logits[[3, 0, 1]], others[1], GREEDY, row)[2].item() for row in rows]
        assert alone == among == moved
        assert len(set(alone)) > 1


def test_a_row_draws_anew_at_every_step_and_the_same_when_a_step_is_repeated():
    logits, row = torch.zeros(1, 1000), Sampling(1.0, 7)
    tokens = [drawn(logits, row, step=step).item() for step in range(20)]
    assert len(set(tokens)) > 15
    assert tokens == [drawn(logits, row, step=step).item() for step in range(20)]


def test_rows_without_a_seed_draw_each_for_itself():
    tokens = drawn(torch.zeros(50, 1000), *[Sampling(1.0)] * 50)
    assert len(set(tokens.tolist())) > 30


@pytest.mark.parametrize("seed", [0, -(2**63), 2**63 - 1])
def test_the_numbers_of_a_seed_are_uniform(seed):
    numbers = torch.tensor([Sampling(1.0, seed).uniform(step) for step in range(20_000)])
    counts = torch.histc(numbers, bins=100, min=0, max=1)
    assert numbers.min() >= 0
    assert numbers.max() < 1
    assert ((counts - 200) ** 2 / 200).sum() < 99 + 4 * (2 * 99) ** 0.5


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("temperature", [0.7, 1.5])
def test_tokens_are_drawn_as_often_as_softmax_says(dtype, temperature):
    logits = 2 * torch.randn(60, generator=torch.Generator().manual_seed(2)).to(dtype)
    expected = 50_000 * (logits.double() / temperature).softmax(-1)
    counts = 50_000 * shares(logits, Sampling(temperature, 3), 50_000)
    often = expected > 5
    square = ((counts - expected) ** 2 / expected)[often].sum()
    freedom = int(often.sum()) - 1
    assert square < freedom + 4 * (2 * freedom) ** 0.5


@pytest.mark.parametrize("top_p", [0.0, 0.1, 0.5, 0.9, 0.999, 1.0])
def test_a_token_is_drawn_from_the_nucleus_that_the_library_keeps(top_p):
    logits = 3 * torch.randn(40, generator=torch.Generator().manual_seed(1))
    kept = TopPLogitsWarper(top_p)(None, logits[None] / 1.5)[0].softmax(-1)
    share = shares(logits, Sampling(1.5, 0, top_p), 5000)
    assert not share[kept == 0].any()
    assert torch.allclose(share, kept, atol=0.03)


@settings(derandomize=True, deadline=None, max_examples=200)
@given(
    seed=st.integers(0, 2**32),
    vocabulary=st.integers(1, 3000),
    spread=st.sampled_from([0.0, 1e-6, 0.1, 1.0, 5.0, 30.0]),
    dtype=st.sampled_from(DTYPES),
    top_p=st.lists(st.floats(0, 1, exclude_max=True), min_size=1, max_size=3),
)
def test_the_nucleus_is_cut_exactly_where_a_sort_cuts_it(seed, vocabulary, spread, dtype, top_p):
    generator = torch.Generator().manual_seed(seed)
    logits = (spread * torch.randn(len(top_p), vocabulary, generator=generator)).to(dtype).float()
    likeliness = (logits - logits.amax(-1, keepdim=True)).exp()
    weights = (likeliness * 2**40).long()
    expected = torch.zeros_like(weights)
    for row, share in enumerate(top_p):
        wanted = max(1, math.ceil(int(weights[row].sum()) * share))
        for token in likeliness[row].sort(descending=True, stable=True).indices.tolist():
            expected[row, token] = weights[row, token]
            wanted -= int(weights[row, token])
            if wanted <= 0:
                break
    keep_nucleus(weights, likeliness, torch.tensor(top_p, dtype=torch.float64))
    assert torch.equal(weights, expected)


def test_of_equally_likely_tokens_the_first_make_up_the_nucleus():
    share = shares(torch.zeros(10), Sampling(1.0, 0, 0.25), 1000)
    assert share[:3].min() > 0.2
    assert not share[3:].any()


@pytest.mark.parametrize("top_p", [0.0, 0.5, 1 - 2**-53, 1.0])
@pytest.mark.parametrize("uniform", [0.0, 0.5, LAST])
def test_a_token_of_no_probability_is_never_drawn(uniform, top_p):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(20, 151_936, generator=generator)
    logits[torch.rand(logits.shape, generator=generator) < 0.7] = -torch.inf
    logits[:, [0, -1]] = -torch.inf
    tokens = at(logits, uniform, top_p=top_p)
    assert logits.gather(1, tokens[:, None]).isfinite().all()


def test_the_ends_of_the_uniform_numbers_draw_the_first_and_the_last_token():
    logits = torch.tensor([[-torch.inf, 0.0, 5.0, 0.0, -200.0, -torch.inf]])
    assert (at(logits, 0.0).item(), at(logits, LAST).item()) == (1, 3)
    flat = torch.zeros(1, 151_936)
    assert (at(flat, 0.0).item(), at(flat, LAST).item()) == (0, 151_935)


@pytest.mark.parametrize("top_p", [0.9, 1.0])
@pytest.mark.parametrize("infinite", [torch.inf, -torch.inf])
def test_infinite_logits_still_draw_a_token_of_the_vocabulary(infinite, top_p):
    logits = torch.full((1, 9), infinite)
    assert all(0 <= at(logits, uniform, top_p=top_p).item() < 9 for uniform in (0.0, 0.5, LAST))
    logits = torch.zeros(1, 9)
    logits[0, 4] = torch.inf
    assert at(logits, 0.5, top_p=top_p).item() == 4


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "sampling", [GREEDY, Sampling(1.0, 0), Sampling(1.0, 0, 0.5)], ids=["greedy", "all", "nucleus"]
)
@pytest.mark.parametrize("among", [0, 3], ids=["alone", "among others"])
def test_a_row_whose_logits_are_not_all_numbers_gets_no_token(dtype, sampling, among):
    logits = torch.randn(1 + among, 50).to(dtype)
    neighbours = [GREEDY, Sampling(1.0, 1), Sampling(1.0, 2, 0.9)][:among]
    expected = drawn(logits, sampling, *neighbours)
    expected[0] = NO_TOKEN
    for broken in (torch.nan, -torch.nan):
        logits[0, 7] = broken
        assert torch.equal(drawn(logits, sampling, *neighbours), expected)


EVERYTHING = Sampling(0.7, 1, 0.9, 5, 0.1, 1.2, 0.3, 0.4, min_tokens=9, logprobs=2)


def test_the_device_is_not_awaited():
    nowhere = torch.device("meta")  # has no values: to read one is an error
    samplings = [GREEDY, Sampling(0.7), Sampling(0.7, 1, 0.9), EVERYTHING]
    rows = [row_of(sampling, step=2) for sampling in samplings]
    draws = prepared(*rows, device=nowhere, stops=(7, 8))
    assert draws is not None
    assert draws.penalised is not None
    assert draws.banned is not None
    logits = torch.empty(4, 50, device=nowhere)
    tokens = next_tokens(logits, draws)
    assert tokens.shape == (4,)
    assert find_logprobs(logits[draws.told], tokens[draws.told], 2).shape == (1, 5)


def test_a_nucleus_changes_nothing_for_the_neighbours():
    logits = torch.randn(3, 50)
    alone = drawn(logits[1:2], Sampling(1.0, 3))
    greedy, one, nucleus = drawn(logits, GREEDY, Sampling(1.0, 3), Sampling(1.0, 0, 0.01))
    assert (greedy, one, nucleus) == (logits[0].argmax(), alone[0], logits[2].argmax())


def test_the_logits_are_left_as_they_were():
    logits = torch.randn(2, 9)
    before = logits.clone()
    drawn(logits, Sampling(1.0, 0), Sampling(1.0, None, 0.5))
    assert torch.equal(logits, before)


TRUNCATIONS = st.builds(
    Sampling,
    temperature=st.sampled_from([0.5, 1.0, 2.0]),
    top_p=st.sampled_from([1.0, 0.9, 0.3, 0.0]),
    top_k=st.sampled_from([0, 1, 3, 20, 1000]),
    min_p=st.sampled_from([0.0, 0.05, 0.5, 1.0]),
)


@settings(derandomize=True, deadline=None, max_examples=25)
@given(seed=st.integers(0, 2**32), rows=st.lists(TRUNCATIONS, min_size=1, max_size=4))
def test_the_tokens_that_may_be_drawn_are_those_that_the_library_keeps(seed, rows):
    logits = 3 * torch.randn(len(rows), 40, generator=torch.Generator().manual_seed(seed))
    found: list[set[int]] = [set() for _ in rows]
    for number in range(40):
        tokens = drawn(logits, *(replace(row, seed=number) for row in rows))
        for row, token in enumerate(tokens.tolist()):
            found[row].add(token)
    for row, sampling in enumerate(rows):
        warpers = LogitsProcessorList([TemperatureLogitsWarper(sampling.temperature)])
        if sampling.min_p:
            warpers.append(MinPLogitsWarper(sampling.min_p))
        if sampling.top_k:
            warpers.append(TopKLogitsWarper(sampling.top_k))
        if sampling.top_p < 1:
            warpers.append(TopPLogitsWarper(sampling.top_p))
        kept = warpers(None, logits[row : row + 1])[0].softmax(-1)
        assert not kept[list(found[row])].eq(0).any()
        # A token of this probability is missed once in a hundred million times.
        assert found[row] >= set((kept > 0.37).nonzero()[:, 0].tolist())


@pytest.mark.parametrize("sampling", [Sampling(1.0, 0, top_k=3), Sampling(1.0, 0, min_p=0.9)])
def test_a_part_of_the_vocabulary_is_drawn_from_as_softmax_says(sampling):
    share = shares(torch.tensor([0.0, 5.0, 4.95, 1.0, 4.92, 4.0]), sampling, 5000)
    expected = torch.tensor([5.0, 4.95, 4.92]).softmax(-1)
    assert torch.allclose(share[[1, 2, 4]], expected, atol=0.03)
    assert share[[1, 2, 4]].sum() == 1


def test_tokens_as_likely_as_the_last_of_the_top_k_are_kept_whoever_the_neighbours_are():
    logits = torch.tensor([[3.0, 1.0, 1.0, 1.0, 0.0]]).repeat(2, 1)
    rows = Sampling(1.0, 0, top_k=2), Sampling(1.0, 0, top_k=5)
    together = [drawn(logits, *(replace(row, seed=n) for row in rows)) for n in range(200)]
    alone = [drawn(logits[:1], replace(rows[0], seed=n))[0].item() for n in range(200)]
    assert [tokens[0].item() for tokens in together] == alone
    assert set(alone) == {0, 1, 2, 3}


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_no_row_stops_before_it_has_its_least_tokens(temperature):
    logits = torch.zeros(3, 6)
    logits[:, [2, 4]] = 50.0
    logits[:, 5] = 20.0
    rows = [
        row_of(Sampling(temperature, 1, min_tokens=least), step=3) for least in (3, 4, 1_000_000)
    ]
    tokens = next_tokens(logits, prepared(*rows, stops=(4, 2))).tolist()
    assert tokens[0] in (2, 4)
    assert tokens[1:] == [5, 5]


@settings(derandomize=True, deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 2**32),
    wanted=st.lists(st.none() | st.integers(0, 60), min_size=1, max_size=5),
    dtype=st.sampled_from(DTYPES),
)
def test_log_probabilities_are_those_of_the_logits_as_the_model_made_them(seed, wanted, dtype):
    logits = torch.randn(len(wanted), 50, generator=torch.Generator().manual_seed(seed)).to(dtype)
    rows = [row_of(replace(EVERYTHING, logprobs=count), step=1) for count in wanted]
    chosen = choose(logits, prepared(*rows)).read()
    tokens = [token for token, _ in chosen]
    assert tokens == next_tokens(logits, prepared(*rows)).tolist()
    found = {row: logprobs for row, (_, logprobs) in enumerate(chosen) if logprobs is not None}
    assert set(found) == {row for row, count in enumerate(wanted) if count is not None}
    expected = logits.double().log_softmax(-1)
    for row, logprobs in found.items():
        assert logprobs.chosen == pytest.approx(expected[row, tokens[row]].item(), abs=1e-5)
        best = expected[row].sort(descending=True).values
        assert len(logprobs.likeliest) >= min(wanted[row], 50)
        for place, (token, value) in enumerate(logprobs.likeliest):
            assert value == pytest.approx(expected[row, token].item(), abs=1e-5)
            assert value == pytest.approx(best[place].item(), abs=1e-5)


def test_a_row_without_numbers_has_no_token_beside_log_probabilities_too():
    logits = torch.randn(2, 9)
    logits[0, 3] = torch.nan
    chosen = choose(logits, prepared(*[row_of(Sampling(logprobs=2))] * 2)).read()
    assert [token for token, _ in chosen] == [NO_TOKEN, logits[1].argmax().item()]
    first, second = [logprobs for _, logprobs in chosen]
    assert math.isnan(first.chosen)
    assert second.likeliest[0][0] == chosen[1][0]
