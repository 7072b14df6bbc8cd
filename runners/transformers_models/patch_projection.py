"""The projection of an image's patches as a product instead of a convolution."""

import torch
from torch import Tensor, nn

from runners.decoder.projection import linear_of


class PatchProjection(nn.Module):
    """Projects patches, [patches, channels, ...] to [patches, size].

    The library convolves each patch with kernels of the patch's own size, which gives one number a
    kernel. That is a product, and as such several times as fast.
    """

    def __init__(self, convolution: nn.Conv2d | nn.Conv3d) -> None:
        super().__init__()
        self.linear = linear_of(convolution.weight.flatten(1), convolution.bias)

    @property
    def weight(self) -> Tensor:
        """The library asks it for its data type."""
        return self.linear.weight

    def forward(self, patches: Tensor) -> Tensor:
        projected: Tensor = self.linear(patches.flatten(1))
        return projected


def project_patches_by_products(model: nn.Module, name: str) -> None:
    """Replaces the convolution of this name, whose kernels are as large as its patches."""
    convolution = model.get_submodule(name)
    assert isinstance(convolution, nn.Conv2d | nn.Conv3d)
    assert tuple(convolution.stride) == tuple(convolution.kernel_size)
    with torch.no_grad():
        model.set_submodule(name, PatchProjection(convolution))
