"""Joins linear layers that read the same input into one product."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from runners.checkpoints.packed_linear import PackedLinear, can_pack


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
    if any(type(layer) is not nn.Linear for layer in layers):
        return layers[0] if len(layers) == 1 else Joined(layers)
    weight = torch.cat([layer.weight for layer in layers]) if len(layers) > 1 else layers[0].weight
    biases = [_bias(layer) for layer in layers]  # type: ignore[arg-type]
    joined = nn.Linear(1, 1, bias=False, device="meta")
    joined.out_features, joined.in_features = weight.shape
    joined.weight = nn.Parameter(weight, requires_grad=False)
    if any(layer.bias is not None for layer in layers):
        joined.bias = nn.Parameter(torch.cat(biases), requires_grad=False)
    return PackedLinear(joined) if can_pack(joined.weight) else joined


def _bias(layer: nn.Linear) -> Tensor:
    return layer.weight.new_zeros(layer.out_features) if layer.bias is None else layer.bias
