"""Joins linear layers that read the same input into one product."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from runners.checkpoints.packed_linear import PackedLinear, can_pack, is_plain


class Joined(nn.Module):
    """Several layers one after the other, where their weights cannot be joined (quantised ones)."""

    def __init__(self, layers: Sequence[nn.Module]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(self, rows: Tensor) -> Tensor:
        return torch.cat([layer(rows) for layer in self.layers], -1)


def join(layers: Sequence[nn.Module]) -> nn.Module:
    """One layer whose output is that of all layers side by side.

    On a CPU it is stored as its products want it, see `packed_linear`.
    """
    plain = [layer for layer in layers if is_plain(layer)]
    if len(plain) < len(layers):
        return layers[0] if len(layers) == 1 else Joined(layers)
    weights = [layer.weight for layer in plain]
    weight = torch.cat(weights) if len(weights) > 1 else weights[0]
    has_bias = any(layer.bias is not None for layer in plain)
    joined = linear_of(weight, torch.cat([_bias(layer) for layer in plain]) if has_bias else None)
    return PackedLinear(joined) if can_pack(joined.weight) else joined


def linear_of(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    """A linear layer of these numbers, which it does not copy."""
    layer = nn.Linear(1, 1, bias=False, device="meta")
    layer.out_features, layer.in_features = weight.shape
    layer.weight = nn.Parameter(weight.detach(), requires_grad=False)
    if bias is not None:
        layer.bias = nn.Parameter(bias.detach(), requires_grad=False)
    return layer


def add_product(hidden: Tensor, layer: nn.Module, rows: Tensor) -> Tensor:
    """`hidden + layer(rows)` in one operation where there is one; it may overwrite `hidden`."""
    if isinstance(layer, PackedLinear):
        return layer.add_to(hidden, rows)
    if is_plain(layer) and layer.bias is None and rows.is_cuda:
        return hidden.addmm_(rows, layer.weight.t())  # in place: otherwise `hidden` is copied first
    return hidden + layer(rows)


def _bias(layer: nn.Linear) -> Tensor:
    return layer.weight.new_zeros(layer.out_features) if layer.bias is None else layer.bias
