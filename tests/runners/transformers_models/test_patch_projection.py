import pytest
import torch
from torch import nn

from runners.transformers_models.patch_projection import project_patches_by_products


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(
    ("kind", "kernel"), [(nn.Conv2d, (4, 4)), (nn.Conv3d, (2, 4, 4))], ids=["2d", "3d"]
)
def test_patches_are_projected_as_the_convolution_does(kind, kernel, bias):
    torch.manual_seed(0)
    model = nn.Sequential(kind(3, 8, kernel, stride=kernel, bias=bias))
    patches = torch.randn(5, 3, *kernel)
    with torch.no_grad():
        expected = model(patches).flatten(1)
        project_patches_by_products(model, "0")
        torch.testing.assert_close(model(patches), expected, rtol=1e-5, atol=1e-5)
    assert model[0].weight.dtype == torch.float32


def test_a_convolution_that_looks_across_patches_is_refused():
    model = nn.Sequential(nn.Conv2d(3, 8, 4, stride=2))
    with pytest.raises(AssertionError):
        project_patches_by_products(model, "0")
