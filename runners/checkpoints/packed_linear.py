"""Linear layers of a model on the CPU, with their weights laid out once for its matrix products.

PyTorch hands a plain weight to a library that reorders it at every product or does without, which
costs a decode step most of its time: a few rows against a large matrix. oneDNN's own layout of the
weights, made at load, is what `torch.compile` gives its frozen models too; these are the same ops.
"""

import torch
from torch import Tensor, nn

ROWS = 16
"""Of the products that the layout is chosen for; any other number is right too."""


class PackedLinear(nn.Module):
    """`nn.Linear` for inference. [..., in features] to [..., out features]."""

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


def pack_linears(model: nn.Module) -> None:
    """Replace the model's linear layers in place, where the CPU has products for their dtype.

    A weight that is something else's too, as an output projection that is the embedding, is then
    held twice.
    """
    for name, layer in list(model.named_modules()):
        if type(layer) is nn.Linear and _can_pack(layer.weight):
            model.set_submodule(name, PackedLinear(layer))


def _can_pack(weight: Tensor) -> bool:
    if weight.device.type != "cpu" or not torch.backends.mkldnn.is_available():
        return False
    if weight.dtype == torch.bfloat16:
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return weight.dtype == torch.float32
