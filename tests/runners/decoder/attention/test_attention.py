"""All attentions over blocks, beside plain attention over each row's own columns."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from runners.decoder.attention import varlen
from runners.decoder.attention.gathered import GatheredAttention, attend_gathered
from runners.decoder.attention.rows import RowAttention
from runners.decoder.attention.varlen import VarlenAttention
from runners.decoder.kv_pool import KvPool, KvShape
from runners.decoder.part import Part, places
from tests.support.models.compiler import needs_compiler

SIZE = 4
HEADS, KV_HEADS, HEAD_SIZE = 6, 2, 8
SCALE = 0.3


def reference_varlen(
    query, key, value, cu_seq_q, cu_seq_k, max_q, max_k, *, scale, window_size, enable_gqa,
    seqused_k, block_table,
):  # fmt: skip
    """What PyTorch documents of `varlen_attn` with a block table, one row at a time."""
    assert enable_gqa
    assert len(cu_seq_k) == len(cu_seq_q) == len(seqused_k) + 1
    assert max_k >= int(seqused_k.max())
    attended = []
    for row, table in enumerate(block_table):
        own = query[cu_seq_q[row] : cu_seq_q[row + 1]]
        assert len(own) <= max_q
        length = int(seqused_k[row])
        keys, values = (
            pages[table.long()].flatten(0, 1)[:length].repeat_interleave(HEADS // KV_HEADS, 1)
            for pages in (key, value)
        )
        scores = torch.einsum("qhd,khd->hqk", own, keys) * scale
        if window_size == (-1, 0):  # aligned to the last column
            columns = torch.arange(length)
            last = columns[length - len(own) :, None]
            scores = scores.masked_fill(columns > last, -torch.inf)
        else:
            assert window_size == (-1, -1)
        attended.append(torch.einsum("hqk,khd->qhd", scores.softmax(-1), values))
    return torch.cat(attended)


@pytest.fixture(autouse=True)
def varlen_on_a_cpu(monkeypatch):
    monkeypatch.setattr(varlen.varlen, "varlen_attn", reference_varlen)


def expected(pool: KvPool, part: Part, queries: Tensor) -> Tensor:
    row = Part(part.blocks, 0, part.end)
    columns = torch.tensor(places([row], SIZE))
    keys, values = (
        tensor.flatten(0, 1)[columns].repeat_interleave(HEADS // KV_HEADS, 1).transpose(0, 1)
        for tensor in (pool.keys[0], pool.values[0])
    )
    mask = torch.arange(part.end) <= torch.arange(part.start, part.end)[:, None]
    return F.scaled_dot_product_attention(
        queries.transpose(0, 1), keys, values, attn_mask=mask, scale=SCALE
    ).transpose(0, 1)


@st.composite
def some_parts(draw, most_tokens: int = 12) -> list[Part]:
    """Parts of rows whose blocks lie anywhere in a pool of 40."""
    free = draw(st.permutations(range(40)))
    parts = []
    for _ in range(draw(st.integers(1, 4))):
        blocks, free = free[:5], free[5:]
        if draw(st.booleans()):
            blocks = sorted(blocks)
        start = draw(st.integers(0, 5 * SIZE - most_tokens))
        parts.append(Part(blocks, start, draw(st.integers(1, most_tokens))))
    return parts


def make_pool(head_size: int = HEAD_SIZE) -> KvPool:
    torch.manual_seed(1)
    pool = KvPool(KvShape(KV_HEADS, head_size, torch.float32), [torch.device("cpu")], SIZE)
    pool.resize(40, [])
    for tensor in (*pool.keys, *pool.values):
        tensor.normal_()
    return pool


@pytest.mark.parametrize(
    ("attention", "head_size"),
    [
        (RowAttention, HEAD_SIZE),
        pytest.param(RowAttention, 32, marks=needs_compiler),  # with the kernel for single tokens
        (GatheredAttention, HEAD_SIZE),
        (VarlenAttention, HEAD_SIZE),
    ],
)
@settings(max_examples=40, deadline=None, derandomize=True)
@given(parts=some_parts())
def test_every_token_sees_its_rows_columns_up_to_its_own(attention, head_size, parts):
    pool = make_pool(head_size)
    count = sum(part.count for part in parts)
    queries = torch.randn(count, HEADS, head_size)
    keys, values = torch.randn(2, count, KV_HEADS, head_size)
    attended = attention(pool, parts, SCALE)(0, queries, keys, values)
    written = torch.tensor(places(parts, SIZE))
    assert torch.equal(pool.keys[0].flatten(0, 1)[written], keys)
    assert torch.equal(pool.values[0].flatten(0, 1)[written], values)
    rows = queries.split([part.count for part in parts])
    whole = torch.cat([expected(pool, part, own) for part, own in zip(parts, rows, strict=True)])
    torch.testing.assert_close(attended, whole, rtol=1e-5, atol=1e-5)


@settings(max_examples=20, deadline=None, derandomize=True)
@given(parts=some_parts(most_tokens=1))
def test_a_step_of_fixed_shapes_sees_the_same(parts):
    pool = make_pool()
    queries = torch.randn(len(parts), HEADS, HEAD_SIZE)
    table = torch.tensor([[*part.blocks, 0, 0] for part in parts], dtype=torch.int32)
    lengths = torch.tensor([part.end for part in parts], dtype=torch.int32)
    blocks = pool.keys[0], pool.values[0]
    attended = attend_gathered(queries, *blocks, table, lengths, SCALE)
    rows = queries.split(1)
    whole = torch.cat([expected(pool, part, own) for part, own in zip(parts, rows, strict=True)])
    torch.testing.assert_close(attended, whole, rtol=1e-5, atol=1e-5)


def reference_flash(
    query, key, value, cum_seq_q, cum_seq_k, max_q, max_k, *, dropout_p, is_causal,
    return_debug_mask, scale, seqused_k,
):  # fmt: skip
    """What FlashAttention does with rows that begin anywhere among the keys."""
    assert max_q == 1
    rows = []
    for row, length in enumerate(seqused_k.tolist()):
        assert length <= max_k
        own = slice(int(cum_seq_k[row]), int(cum_seq_k[row]) + length)
        rows.append(
            F.scaled_dot_product_attention(
                query[row : row + 1].transpose(0, 1),
                key[own].repeat_interleave(HEADS // KV_HEADS, 1).transpose(0, 1),
                value[own].repeat_interleave(HEADS // KV_HEADS, 1).transpose(0, 1),
                scale=scale,
            ).transpose(0, 1)
        )
    return torch.cat(rows), None


def test_a_step_over_rows_in_one_piece_sees_the_same(monkeypatch):
    monkeypatch.setattr(torch.ops.aten, "_flash_attention_forward", reference_flash)
    pool = make_pool()
    parts = [Part([5, 6, 7], 9, 1), Part([20], 0, 1), Part([1, 2], 6, 1)]
    queries = torch.randn(3, HEADS, HEAD_SIZE)
    places_of = torch.tensor([5 * SIZE, 20 * SIZE, SIZE, 0], dtype=torch.int32)
    lengths = torch.tensor([part.end for part in parts], dtype=torch.int32)
    columns = [tensor.flatten(0, 1) for tensor in (pool.keys[0], pool.values[0])]
    attended = varlen.attend_extents(
        queries, *columns, torch.arange(4), places_of, lengths, 12, SCALE
    )
    rows = queries.split(1)
    whole = torch.cat([expected(pool, part, own) for part, own in zip(parts, rows, strict=True)])
    torch.testing.assert_close(attended, whole, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("fixed", [False, True])
def test_what_is_no_number_beyond_a_row_does_not_reach_it(fixed):
    pool = make_pool()
    part = Part([7], 1, 1)
    for tensor in (pool.keys[0], pool.values[0]):
        tensor[7, 2:] = torch.nan
        tensor[0] = torch.nan
    queries = torch.randn(1, HEADS, HEAD_SIZE)
    if fixed:
        table, lengths = torch.tensor([[7, 0]]), torch.tensor([2])
        found = attend_gathered(queries, pool.keys[0], pool.values[0], table, lengths, SCALE)
    else:
        found = RowAttention(pool, [part], SCALE).attend(0, queries, queries, queries)
    assert found.isfinite().all()


@pytest.mark.parametrize("head_size", [HEAD_SIZE, pytest.param(32, marks=needs_compiler)])
def test_bfloat16_pieces_are_merged_as_one_piece_would_be(head_size):
    torch.manual_seed(0)
    pool = KvPool(KvShape(KV_HEADS, head_size, torch.bfloat16), [torch.device("cpu")], SIZE)
    pool.resize(8, [])
    apart, together = Part([3, 1, 2, 0], 15, 1), Part([4, 5, 6, 7], 15, 1)
    for tensor in (*pool.keys, *pool.values):
        tensor.normal_()
        tensor[together.blocks] = tensor[apart.blocks]
    queries, keys = torch.randn(2, 1, HEADS, head_size, dtype=torch.bfloat16)
    first, second = (
        RowAttention(pool, [part], SCALE).attend(0, queries, keys, keys)
        for part in (apart, together)
    )
    torch.testing.assert_close(first, second, rtol=2e-2, atol=2e-2)
