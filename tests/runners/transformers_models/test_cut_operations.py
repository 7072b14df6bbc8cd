from functools import partial

import pytest
import torch
import torch.nn.functional as F

from runners.checkpoints.packed_linear import PackedLinear, can_pack
from runners.transformers_models import cut_operations
from runners.transformers_models.cut_operations import CutOperations

ROWS, WIDTH = 40, 24


def states(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def linear() -> torch.nn.Linear:
    torch.manual_seed(0)
    return torch.nn.Linear(WIDTH, ROWS)


def packed() -> PackedLinear:
    layer = linear()
    if not can_pack(layer.weight):
        pytest.skip("this CPU has no packed products")
    return PackedLinear(layer)


LONG = {
    "a product": lambda: partial(linear(), states(ROWS, WIDTH)),
    "a packed product": lambda: partial(packed(), states(ROWS, WIDTH)),
    "a product of a square": lambda: partial(torch.nn.Linear(ROWS, ROWS), states(ROWS, ROWS)),
    "a product of one image": lambda: partial(linear(), states(1, 5, ROWS, WIDTH)),
    "a norm": lambda: partial(F.layer_norm, states(ROWS, WIDTH), (WIDTH,)),
    "an embedding": lambda: partial(F.embedding, torch.arange(ROWS)[:, None], states(ROWS, WIDTH)),
    "gelu": lambda: partial(F.gelu, states(ROWS, WIDTH)),
    "softmax": lambda: partial(F.softmax, states(3, ROWS, WIDTH), -1, dtype=torch.float64),
    "one row for all": lambda: partial(torch.add, states(1, ROWS, 1, WIDTH), states(ROWS, 3, 1)),
    "a vector for all": lambda: partial(torch.mul, states(WIDTH), states(ROWS, WIDTH)),
    "products of matrices": lambda: partial(
        torch.Tensor.matmul, states(6, ROWS, WIDTH), states(6, WIDTH, ROWS)
    ),
}


@pytest.fixture(autouse=True)
def few_elements(monkeypatch) -> None:
    """Slices of few elements; of products too, whose multiplications count as much here."""
    torch.set_num_threads(1)
    monkeypatch.setattr(cut_operations, "_MOST", 200)
    monkeypatch.setattr(cut_operations, "_PRODUCTS", 4)
    monkeypatch.setattr(cut_operations, "_QUERIES", 4)


@torch.inference_mode()
@pytest.mark.parametrize("kind", LONG)
def test_a_long_operation_gives_the_same_in_slices_and_calls_after_each(kind):
    operation = LONG[kind]()
    whole = operation()
    called = []
    with CutOperations(lambda: called.append(1)):
        sliced = operation()
    assert sliced.dtype == whole.dtype
    torch.testing.assert_close(sliced, whole, rtol=1e-6, atol=1e-6)
    assert len(called) >= 3


@pytest.mark.parametrize("tokens", [2, 40, 130])
@pytest.mark.parametrize("heads", [1, 3])
def test_attention_in_slices_gives_what_it_gives_at_once(tokens, heads):
    queries, keys, values = states(3, 1, heads, tokens, 8)
    whole = F.scaled_dot_product_attention(queries, keys, values, scale=0.3)
    called = []
    with CutOperations(lambda: called.append(1)):
        sliced = F.scaled_dot_product_attention(queries, keys, values, scale=0.3)
    torch.testing.assert_close(sliced, whole, rtol=1e-5, atol=1e-5)
    assert (len(called) > heads) == (tokens > 2)


@pytest.mark.parametrize(
    "arguments", [{"is_causal": True}, {"attn_mask": torch.tril(torch.ones(ROWS, ROWS)) > 0}]
)
def test_attention_of_which_a_query_sees_a_part_is_not_cut(arguments):
    queries, keys, values = states(3, 1, 3, ROWS, 8)
    whole = F.scaled_dot_product_attention(queries, keys, values, **arguments)
    called = []
    with CutOperations(lambda: called.append(1)):
        again = F.scaled_dot_product_attention(queries, keys, values, **arguments)
    assert torch.equal(again, whole)
    assert called == [1]


@pytest.mark.parametrize("dim", [0, 1, -1])
def test_tensors_are_concatenated_in_slices(dim):
    tensors = [states(1, ROWS, WIDTH).transpose(0, 1), states(ROWS, 1, WIDTH)]
    called = []
    with CutOperations(lambda: called.append(1)):
        sliced = torch.cat(tensors, dim)
        named = torch.cat(tensors, dim=dim)
    assert torch.equal(sliced, torch.cat(tensors, dim))
    assert torch.equal(named, sliced)
    assert len(called) >= 10


def test_tensors_of_several_types_are_concatenated_as_the_library_does():
    tensors = [states(ROWS, WIDTH), states(ROWS, WIDTH).double()]
    with CutOperations(lambda: None):
        assert torch.cat(tensors).dtype == torch.float64


HEADS = (1, 3, ROWS, 8)
OTHERWISE_GIVEN = {
    "a product by name": lambda: partial(
        F.linear, input=states(ROWS, WIDTH), weight=states(5, WIDTH)
    ),
    "weights by name": lambda: partial(F.linear, states(ROWS, WIDTH), weight=states(5, WIDTH)),
    "a sum by name": lambda: partial(torch.add, states(ROWS, WIDTH), other=states(ROWS, WIDTH)),
    "tensors by name": lambda: partial(torch.cat, tensors=[states(ROWS, WIDTH)] * 2),
    "along an axis": lambda: partial(torch.cat, [states(ROWS, WIDTH)] * 2, axis=1),
    "beside an empty tensor": lambda: partial(torch.cat, [torch.empty(0), states(ROWS, WIDTH)], 1),
    "softmax across rows": lambda: partial(F.softmax, states(ROWS, WIDTH), dim=0),
    "softmax across rows of an image": lambda: partial(torch.softmax, states(1, ROWS, WIDTH), 1),
    "a norm of all rows": lambda: partial(F.layer_norm, states(ROWS, WIDTH), (ROWS, WIDTH)),
    "weights first": lambda: partial(torch.embedding, states(ROWS, WIDTH), torch.arange(ROWS)),
    "attention by name": lambda: partial(
        F.scaled_dot_product_attention,
        query=states(*HEADS),
        key=states(*HEADS),
        value=states(*HEADS),
    ),
    "attention without images": lambda: partial(
        F.scaled_dot_product_attention, *[states(*HEADS[1:])] * 3
    ),
    "heads that share their keys": lambda: partial(
        F.scaled_dot_product_attention, states(*HEADS), *[states(1, 1, ROWS, 8)] * 2
    ),
}


@pytest.mark.parametrize("kind", OTHERWISE_GIVEN)
def test_arguments_that_are_given_in_another_way_give_the_same(kind):
    operation = OTHERWISE_GIVEN[kind]()
    with CutOperations(lambda: None):
        cut = operation()
    torch.testing.assert_close(cut, operation(), rtol=1e-6, atol=1e-6)


def test_a_short_operation_is_computed_at_once():
    few, called = states(2, 3), []
    with CutOperations(lambda: called.append(1)):
        F.gelu(few)
    assert called == [1]


def test_products_of_two_matrices_are_not_cut_along_what_they_sum_over():
    square = states(ROWS, ROWS)
    whole = square @ square
    with CutOperations(lambda: None):
        assert torch.equal(square @ square, whole)


def test_the_function_s_own_operations_call_nothing():
    few, called = states(2, 3), []

    def function() -> None:
        called.append(few + 1)

    with CutOperations(function):
        F.silu(few)
    assert len(called) == 1
