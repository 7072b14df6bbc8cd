"""Linear layers on the CPU whose weights are stored in oneDNN's own layout.

With weights in another layout, oneDNN reorders them at every product or uses slower products. A
decode step (a few rows times a large matrix) would spend most of its time on that. `torch.compile`
stores the weights of frozen models in the same way, with the same operators.
"""

from typing import TypeGuard

import torch
from torch import Tensor, nn

ROWS = 16
"""The layout is chosen for products of this many rows; other numbers are computed correctly too."""


class PackedLinear(nn.Module):
    """`nn.Linear` for inference: [..., in features] to [..., out features]."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.in_features = linear.in_features
        self.out_features = linear.out_features
        packed = torch.ops.mkldnn._reorder_linear_weight(linear.weight.detach(), ROWS)
        self.weight = nn.Parameter(packed, requires_grad=False)
        self.bias = linear.bias

    def forward(self, rows: Tensor) -> Tensor:
        product: Tensor = torch.ops.mkldnn._linear_pointwise(
            rows, self.weight, self.bias, "none", [], ""
        )
        return product

    def add_to(self, hidden: Tensor, rows: Tensor) -> Tensor:
        """`hidden + self(rows)` in one operation."""
        total: Tensor = torch.ops.mkldnn._linear_pointwise.binary(
            rows, hidden, self.weight, self.bias, "add"
        )
        return total


def pack_linears(model: nn.Module) -> None:
    """Replaces a model's linear layers in place, if the CPU has products for their dtype.

    A weight that another layer shares, as the embedding shares the output projection's, is in
    memory twice afterwards.
    """
    for name, layer in list(model.named_modules()):
        if is_plain(layer) and can_pack(layer.weight):
            model.set_submodule(name, PackedLinear(layer))


def is_plain(layer: nn.Module) -> TypeGuard[nn.Linear]:
    """Whether it is a linear layer with an ordinary weight, in contrast to a quantised one."""
    # A quantised weight is a tensor that holds others, and says by this method which.
    return type(layer) is nn.Linear and not hasattr(layer.weight, "__tensor_flatten__")


def can_pack(weight: Tensor) -> bool:
    if weight.device.type != "cpu" or not torch.backends.mkldnn.is_available():
        return False
    if weight.dtype == torch.bfloat16:
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return weight.dtype == torch.float32
