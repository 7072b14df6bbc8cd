"""The kernel of single tokens, beside plain attention over each row's own columns."""

import pytest
import torch
from torch import Tensor

from runners.decoder.attention.compiled_tokens import CompiledTokens, kernel_for
from runners.decoder.attention.tokens import FlashTokens
from runners.decoder.kv_pool import KvPool, KvShape
from runners.decoder.part import Part, places
from tests.support.models.compiler import compile_anew, needs_compiler

CPU = torch.device("cpu")
BLOCK_SIZE, BLOCKS = 32, 64
SCALE = 0.2
KNOWN = [(1, 64), (2, 64), (2, 128), (4, 128), (6, 128), (7, 128)]
"""Query heads of a key-value head and head sizes for which the kernel has constants."""
OTHERS = [(1, 16), (3, 32), (5, 80), (2, 256), (16, 128), (17, 48), (33, 16)]
PARTS = [
    Part([5], 0, 1),
    Part(range(10, 30), 600, 1),  # more columns than the kernel takes at a time, in one piece
    Part([40, 3, 39], 95, 1),
    Part([8, 7, 6, 9], 100, 1),
    Part([31], 14, 1),
    Part([32], 15, 1),
    Part([33], 16, 1),
    Part([50, 51, 52, 53, 54, 55, 56, 57, 1], 256, 1),
    Part([50, 51, 52, 53, 54, 55, 56, 57, 2], 261, 1),  # shares its blocks with the one before
]


def make_pool(size: int, dtype: torch.dtype = torch.float32, kv_heads: int = 2) -> KvPool:
    torch.manual_seed(0)
    pool = KvPool(KvShape(kv_heads, size, dtype), [CPU, CPU], BLOCK_SIZE)
    assert pool.resize(BLOCKS, [])
    for tensor in (*pool.keys, *pool.values):
        tensor.normal_()
    return pool


def make_queries(pool: KvPool, shared: int, parts: list[Part] = PARTS) -> Tensor:
    """Of one product with keys and values, as a layer makes them: not contiguous."""
    heads, size = pool.shape.heads, pool.shape.head_size
    states = torch.randn(len(parts), heads * (shared + 2), size).to(pool.shape.dtype)
    return states[:, : heads * shared]


def attend(pool: KvPool, queries: Tensor, parts: list[Part] = PARTS, layer: int = 0) -> Tensor:
    kernel = kernel_for(pool)
    assert kernel
    return CompiledTokens(kernel, pool, parts, SCALE).attend(layer, queries)


def expected(pool: KvPool, queries: Tensor, parts: list[Part] = PARTS, layer: int = 0) -> Tensor:
    """Computed in float64."""
    shared = queries.shape[1] // pool.shape.heads
    rows = []
    for query, part in zip(queries.double(), parts, strict=True):
        columns = places([Part(part.blocks, 0, part.end)], BLOCK_SIZE)
        keys, values = (
            held[layer].flatten(0, 1)[columns].double().repeat_interleave(shared, 1)
            for held in (pool.keys, pool.values)
        )
        weights = torch.einsum("hd,chd->hc", query, keys).mul(SCALE).softmax(-1)
        rows.append(torch.einsum("hc,chd->hd", weights, values))
    return torch.stack(rows)


@needs_compiler
@pytest.mark.parametrize(
    ("dtype", "off"), [(torch.float32, 1e-5), (torch.bfloat16, 1e-2)], ids=["float32", "bfloat16"]
)
@pytest.mark.parametrize(("shared", "size"), KNOWN + OTHERS)
def test_every_token_sees_all_columns_of_its_row(shared, size, dtype, off):
    pool = make_pool(size, dtype)
    queries = make_queries(pool, shared)
    found = attend(pool, queries, layer=1)
    assert found.dtype == dtype
    assert found.is_contiguous()
    torch.testing.assert_close(found.double(), expected(pool, queries, layer=1), rtol=off, atol=off)


@needs_compiler
@pytest.mark.parametrize("kv_heads", [1, 5])
def test_any_number_of_key_value_heads_is_computed(kv_heads):
    pool = make_pool(32, kv_heads=kv_heads)
    queries = make_queries(pool, 2)
    torch.testing.assert_close(
        attend(pool, queries).double(), expected(pool, queries), rtol=1e-5, atol=1e-5
    )


@needs_compiler
def test_a_token_gets_the_same_numbers_from_any_number_of_threads_and_beside_any_others():
    pool = make_pool(128)
    queries = make_queries(pool, 2)
    threads = torch.get_num_threads()
    found = []
    try:
        for count in (1, 2, 5):
            torch.set_num_threads(count)
            found.append(attend(pool, queries))
    finally:
        torch.set_num_threads(threads)
    alone = [attend(pool, queries[n : n + 1], [part]) for n, part in enumerate(PARTS)]
    for other in (*found[1:], torch.cat(alone)):
        assert torch.equal(found[0], other)


@needs_compiler
@pytest.mark.parametrize("size", [100.0, -100.0, 1e4])
def test_scores_far_apart_do_not_overflow(size):
    pool = make_pool(32)
    pool.keys[0][:, ::3] *= size
    queries = make_queries(pool, 2)
    torch.testing.assert_close(
        attend(pool, queries).double(), expected(pool, queries), rtol=1e-4, atol=1e-4
    )


@needs_compiler
@pytest.mark.parametrize(
    ("held", "wrong"),
    [
        *[("keys", torch.nan), ("queries", torch.nan), ("queries", torch.inf)],
        *[("values", wrong) for wrong in (torch.nan, torch.inf, -torch.inf)],
    ],
)
@pytest.mark.parametrize("column", [0, 17, 95])
def test_what_is_no_number_reaches_its_own_row_and_no_other(held, wrong, column):
    pool, row = make_pool(64), 2
    queries = make_queries(pool, 2)
    sound = attend(pool, queries)
    if held == "queries":
        queries[row, :, 5] = wrong
    else:
        (place,) = places([Part(PARTS[row].blocks, column, 1)], BLOCK_SIZE)
        getattr(pool, held)[0][place // BLOCK_SIZE, place % BLOCK_SIZE] = wrong
    found = attend(pool, queries)
    assert not found[row].isfinite().all(-1).any()
    others = [other for other in range(len(PARTS)) if other != row]
    assert torch.equal(found[others], sound[others])


@needs_compiler
def test_what_is_no_number_beyond_a_row_does_not_reach_it():
    pool = make_pool(64)
    queries = make_queries(pool, 2)
    sound = attend(pool, queries)
    seen = {place for part in PARTS for place in places([Part(part.blocks, 0, part.end)], 32)}
    unseen = sorted(set(range(BLOCKS * BLOCK_SIZE)) - seen)
    for tensor in (pool.keys[0], pool.values[0]):
        for place in unseen:
            tensor[place // BLOCK_SIZE, place % BLOCK_SIZE] = torch.nan
    assert torch.equal(attend(pool, queries), sound)


@needs_compiler
@pytest.mark.parametrize("moved", [1, 2, 3])
@pytest.mark.parametrize("tokens", ["compiled", "flash"])
def test_a_pool_that_could_not_grow_in_all_layers_is_read_as_before(tokens, moved, monkeypatch):
    pool = make_pool(64)
    queries = make_queries(pool, 2)
    real, made = KvPool._blocks, []

    def failing(self: KvPool, count: int, device: torch.device) -> Tensor:
        made.append(count)
        if len(made) > moved:
            raise MemoryError
        return real(self, count, device)

    monkeypatch.setattr(KvPool, "_blocks", failing)
    assert not pool.resize(9 * BLOCKS, range(BLOCKS))
    for layer in (0, 1):
        found = (
            attend(pool, queries, layer=layer)
            if tokens == "compiled"
            else FlashTokens(pool, PARTS, SCALE).attend(layer, queries)
        )
        whole = expected(pool, queries, layer=layer)
        torch.testing.assert_close(found.double(), whole, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("size", "dtype"),
    [(8, torch.float32), (24, torch.bfloat16), (272, torch.float32), (64, torch.float16)],
)
def test_there_is_no_kernel_for_other_pools(size, dtype):
    assert kernel_for(KvPool(KvShape(2, size, dtype), [CPU], BLOCK_SIZE)) is None


def test_there_is_none_without_a_compiler(monkeypatch):
    compile_anew(monkeypatch, "no-such-compiler")
    assert kernel_for(KvPool(KvShape(2, 64, torch.float32), [CPU], BLOCK_SIZE)) is None
