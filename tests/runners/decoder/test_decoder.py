from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from runners.decoder.attention.rows import RowAttention
from runners.decoder.decoder import Added, Decoder, last_tokens
from runners.decoder.part import Part
from tests.support.models.decoders import (
    BLOCK_SIZE,
    decoder_of,
    filled_pool,
    library_model,
    packed,
)

ROWS = [[7, 20, 31, 4, 99, 3, 250, 18, 77, 5, 61], [5], list(range(40, 61)), [9, 8, 7, 6]]
BLOCKS = [[3, 9], [0], [20, 21, 2], [30]]
KINDS = ["qwen2", "qwen3"]


@pytest.fixture(scope="module", params=KINDS)
def model(request):
    return library_model(request.param)


def library_logits(model, row: list[int]) -> torch.Tensor:
    return model(torch.tensor([row])).logits[0]


def compute(decoder, pool, parts, rows=ROWS, **arguments):
    tokens, positions = packed(rows, parts)
    attention = RowAttention(pool, parts, decoder.scale)
    with torch.no_grad():
        return decoder(decoder.embedding(tokens), positions, attention, **arguments)


def test_packed_rows_get_the_logits_that_the_library_gives_each_alone(model):
    decoder = decoder_of(model)
    parts = [Part(blocks, 0, len(row)) for blocks, row in zip(BLOCKS, ROWS, strict=True)]
    logits = compute(decoder, filled_pool(decoder), parts).split([len(row) for row in ROWS])
    for row, own in zip(ROWS, logits, strict=True):
        torch.testing.assert_close(own, library_logits(model, row), rtol=1e-4, atol=1e-4)


def test_logits_are_computed_of_the_wanted_tokens_only(model):
    decoder = decoder_of(model)
    parts = [Part(blocks, 0, len(row)) for blocks, row in zip(BLOCKS, ROWS, strict=True)]
    wanted = last_tokens([part.count for part in parts])
    logits = compute(decoder, filled_pool(decoder), parts, wanted=wanted)
    last = torch.stack([library_logits(model, row)[-1] for row in ROWS])
    torch.testing.assert_close(logits, last, rtol=1e-4, atol=1e-4)


@settings(max_examples=15, deadline=None, derandomize=True)
@given(cuts=st.lists(st.integers(1, 20), max_size=4))
def test_a_prompt_in_slices_gets_the_logits_of_the_whole(model, cuts):
    decoder = decoder_of(model)
    pool, row, blocks = filled_pool(decoder), ROWS[2], [20, 6, 7]
    edges = sorted({0, *(cut for cut in cuts if cut < len(row)), len(row)})
    logits = [
        compute(decoder, pool, [Part(blocks, start, end - start)], [row])
        for start, end in pairwise(edges)
    ]
    torch.testing.assert_close(torch.cat(logits), library_logits(model, row), rtol=1e-4, atol=1e-4)


def test_what_is_added_reaches_the_named_tokens_after_the_first_layers():
    model = library_model()
    decoder = decoder_of(model)
    row, added = ROWS[0], torch.randn(2, 64)
    places = torch.tensor([2, 5])
    own = compute(
        decoder, filled_pool(decoder), [Part([0, 1], 0, len(row))], added=Added(places, [added])
    )

    def add(layer, inputs, output):
        output[0, places] += added
        return output

    handle = model.model.layers[0].register_forward_hook(add)
    expected = library_logits(model, row)
    handle.remove()
    torch.testing.assert_close(own, expected, rtol=1e-4, atol=1e-4)


def test_a_row_leaves_the_blocks_of_other_rows_alone():
    decoder = decoder_of(library_model())
    pool = filled_pool(decoder)
    before = [tensor.clone() for tensor in (*pool.keys, *pool.values)]
    compute(decoder, pool, [Part([4, 11], 0, BLOCK_SIZE + 3)])
    for tensor, old in zip((*pool.keys, *pool.values), before, strict=True):
        changed = (tensor != old).flatten(1).any(1).nonzero()[:, 0]
        assert changed.tolist() == [4, 11]


def test_the_layers_are_taken_out_of_the_librarys_model():
    model = library_model()
    copied = library_model()
    Decoder(copied)
    kept = sum(parameter.numel() for parameter in copied.parameters())
    layers = sum(parameter.numel() for parameter in model.model.layers.parameters())
    assert kept == sum(parameter.numel() for parameter in model.parameters()) - layers
