"""Linear layers whose weights are packed for the CPU."""

import pytest
import torch
from torch import nn

from runners.checkpoints.packed_linear import PackedLinear, pack_linears

TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 2e-2}


@pytest.fixture(params=TOLERANCE, ids=str)
def dtype(request):
    if request.param is torch.bfloat16 and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        pytest.skip("this CPU has no products in bfloat16 to pack for")
    return request.param


def linear(dtype, bias=True, inputs=48, outputs=80):
    torch.manual_seed(0)
    return nn.Linear(inputs, outputs, bias=bias, dtype=dtype).requires_grad_(False)


def packed(layer):
    model = nn.Sequential(layer)
    pack_linears(model)
    assert isinstance(model[0], PackedLinear)
    return model[0]


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(1,), (16,), (300,), (2, 5), (0,), (1, 0)])
def test_it_gives_what_the_plain_layer_gives(dtype, bias, shape):
    layer = linear(dtype, bias)
    rows = torch.randn(*shape, 48, dtype=dtype)
    product = packed(layer)(rows)
    assert product.dtype is dtype
    torch.testing.assert_close(product, layer(rows), atol=TOLERANCE[dtype], rtol=TOLERANCE[dtype])


def test_rows_that_lie_apart_in_memory_are_taken_too():
    layer = linear(torch.float32)
    rows = torch.randn(4, 7, 48)[:, -1]
    torch.testing.assert_close(packed(layer)(rows), layer(rows), atol=1e-5, rtol=1e-5)


def test_its_memory_is_counted(dtype):
    layer = packed(linear(dtype))
    held = sum(weight.nelement() * weight.element_size() for weight in layer.parameters())
    assert held == (48 * 80 + 80) * dtype.itemsize


def test_a_weight_shared_with_an_embedding_leaves_that_as_it_was():
    model = nn.ModuleDict({"embed": nn.Embedding(80, 48), "head": linear(torch.float32)})
    model["head"].weight = model["embed"].weight
    pack_linears(model)
    tokens = torch.tensor([3, 7])
    hidden = model["embed"](tokens)
    assert model["head"](hidden).shape == (2, 80)
    assert hidden.equal(model["embed"].weight[tokens])


def test_layers_in_a_dtype_without_packed_products_stay_plain():
    model = nn.Sequential(nn.Linear(4, 4, dtype=torch.float64))
    pack_linears(model)
    assert type(model[0]) is nn.Linear


def test_layers_on_another_device_stay_plain():
    model = nn.Sequential(nn.Linear(4, 4, device="meta"))
    pack_linears(model)
    assert type(model[0]) is nn.Linear


def test_layers_that_only_derive_from_linear_stay_as_they_are():
    attention = nn.MultiheadAttention(8, 2)
    pack_linears(attention)
    assert not any(isinstance(layer, PackedLinear) for layer in attention.modules())
