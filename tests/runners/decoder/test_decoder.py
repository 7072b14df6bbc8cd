from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from runners.decoder.attention.compiled_tokens import kernel_for
from runners.decoder.attention.rows import RowAttention
from runners.decoder.decoder import Added, Decoder, last_tokens
from runners.decoder.operations import CompiledOperations
from runners.decoder.part import Part
from tests.support.models.compiler import compile_anew, needs_compiler
from tests.support.models.decoders import (
    BLOCK_SIZE,
    decoder_of,
    filled_pool,
    library_model,
    packed,
)

ROWS = [[7, 20, 31, 4, 99, 3, 250, 18, 77, 5, 61], [5], list(range(40, 61)), [9, 8, 7, 6]]
BLOCKS = [[3, 9], [0], [20, 21, 2], [30]]
FITTING = 32
"""A head size for which there are all kernels for CPUs; for that of `library_model` there is only
the one of attention."""
KINDS = [("qwen2", 16), ("qwen3", 16), ("qwen2", FITTING), ("qwen3", FITTING)]


@pytest.fixture(scope="module", params=KINDS, ids=lambda kind: f"{kind[0]}-{kind[1]}")
def model(request):
    kind, head_size = request.param
    return library_model(kind, head_dim=head_size)


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


@needs_compiler
def test_the_kernels_for_cpus_are_used_where_they_fit():
    decoder = decoder_of(library_model("qwen3", head_dim=FITTING))
    assert {type(layer.operations) for layer in decoder.layers} == {CompiledOperations}
    assert kernel_for(decoder.make_pool(BLOCK_SIZE))


@pytest.mark.parametrize("kind", ["qwen2", "qwen3"])
def test_without_a_compiler_the_tokens_are_the_same(kind, monkeypatch):
    model = library_model(kind, head_dim=FITTING)

    def generate() -> list[int]:
        decoder = decoder_of(model)
        pool, row = filled_pool(decoder), list(ROWS[0])
        part = Part([4, 9, 2, 30, 31], 0, len(row))
        while len(row) < 5 * BLOCK_SIZE:
            logits = compute(decoder, pool, [part], [row])
            row.append(int(logits[-1].argmax()))
            part = Part(part.blocks, len(row) - 1, 1)
        return row

    with_kernels = generate()
    compile_anew(monkeypatch, "no-such-compiler")
    assert generate() == with_kernels
    assert len(set(with_kernels)) > 15


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
