"""Penalties beside what transformers makes of the same tokens, and beside the definitions."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from transformers import RepetitionPenaltyLogitsProcessor

from runners.sampling.penalties import Penalties, penalise
from runners.scheduling.row import Row, Sampling
from tests.support.models.batching import answers, make_batcher, make_row, run
from tests.support.models.text_vlm import TextVlm, encode

CPU = torch.device("cpu")
VOCABULARY = 256


def penalised(penalties: Penalties, rows: list[Row], scores: Tensor) -> Tensor:
    scores = scores.clone()
    step = penalties.prepare(list(enumerate(rows)))
    if step is not None:
        penalise(scores, step)
    return scores


def expected(row: Row, scores: Tensor) -> Tensor:
    """Scores [vocabulary], penalised as the libraries do it."""
    sampling = row.sampling
    ids = torch.cat([row.encoded.tokens, torch.tensor(row.tokens, dtype=torch.long)])
    scores = scores[None].clone()
    if sampling.repetition_penalty != 1:
        scores = RepetitionPenaltyLogitsProcessor(sampling.repetition_penalty)(ids[None], scores)
    counts = torch.tensor(row.tokens, dtype=torch.long).bincount(minlength=VOCABULARY)
    scores = scores - torch.tensor(sampling.frequency_penalty) * counts
    return (scores - torch.tensor(sampling.presence_penalty) * (counts > 0))[0]


samplings = st.builds(
    Sampling,
    repetition_penalty=st.sampled_from([1.0, 1.05, 0.5, 1.7]),
    frequency_penalty=st.sampled_from([0.0, 0.3, -2.0]),
    presence_penalty=st.sampled_from([0.0, 0.6, -1.1]),
).filter(lambda sampling: sampling.penalises)


@settings(derandomize=True, deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 2**32),
    kinds=st.lists(samplings, min_size=1, max_size=5),
    spread=st.sampled_from([3, VOCABULARY - 1]),
    data=st.data(),
)
def test_each_row_is_penalised_as_it_would_be_alone_whoever_joins_and_leaves(
    seed, kinds, spread, data
):
    generator = torch.Generator().manual_seed(seed)
    penalties = Penalties(CPU)
    rows = [
        make_row(encode(range(number, 7 * number + 1)), 1, sampling=kind)
        for number, kind in enumerate(kinds)
    ]
    for _ in range(12):
        present = [row for row in rows if data.draw(st.booleans())]
        scores = 5 * torch.randn(len(present), VOCABULARY, generator=generator)
        got = penalised(penalties, present, scores)
        for place, row in enumerate(present):
            assert torch.equal(got[place], expected(row, scores[place]))
            row.tokens.append(data.draw(st.integers(0, spread)))


def test_the_lists_of_long_answers_grow():
    penalties = Penalties(CPU)
    row = make_row(encode(b""), 1, sampling=Sampling(frequency_penalty=0.5))
    scores = torch.randn(1, 5000, generator=torch.Generator().manual_seed(0))
    row.tokens += [7, 7, 7]
    penalised(penalties, [row], scores)
    row.tokens += range(3000)
    got = penalised(penalties, [row], scores)
    counts = torch.tensor(row.tokens).bincount(minlength=5000)
    assert torch.equal(got, scores - 0.5 * counts)


def test_a_failed_upload_leaves_no_list_that_lacks_tokens(monkeypatch):
    penalties = Penalties(CPU)
    row = make_row(encode(b"ab"), 1, sampling=Sampling(repetition_penalty=1.3))
    scores = torch.randn(1, VOCABULARY, generator=torch.Generator().manual_seed(0))
    penalised(penalties, [row], scores)
    row.tokens.append(5)
    with monkeypatch.context() as patched:
        patched.setattr(penalties, "_make_room", None)
        with pytest.raises(TypeError):
            penalties.prepare([(0, row)])
    assert torch.equal(penalised(penalties, [row], scores)[0], expected(row, scores[0]))


def test_rows_with_a_repetition_penalty_get_what_generate_gives_them_alone():
    torch.set_num_threads(1)
    vlm = TextVlm(block_size=8)
    texts = [b"page", b"another page", b"x", b"the same the same the same"]
    alone = [
        vlm.generate(encode(text), 24, repetition_penalty=penalty)
        for text, penalty in zip(texts, (1.3, 1.0, 1.1, 2.0), strict=True)
    ]
    batcher = make_batcher(vlm, kv_budget=14 * vlm.pool.bytes_per_block)
    rows = [
        make_row(text, 24, sampling=Sampling(repetition_penalty=penalty))
        for text, penalty in zip(texts, (1.3, 1.0, 1.1, 2.0), strict=True)
    ]
    for row in rows:
        batcher.submit(row)
    run(batcher)
    assert batcher.preemptions  # a row that gave way is penalised for what it had
    assert [row.future.result(timeout=0).tokens for row in rows] == alone
    assert alone != answers(vlm, [encode(text) for text in texts], 24)
