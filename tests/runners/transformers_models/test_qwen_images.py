import pytest
import torch
from transformers import Qwen2VLImageProcessor

from common.failures import ErrorCode, Refusal
from runners.transformers_models.qwen_images import QwenImages, padded
from tests.support.models.prompts import page

SIDE = 28


@pytest.fixture(scope="module")
def images() -> QwenImages:
    return QwenImages(Qwen2VLImageProcessor(), 100_000, torch.bfloat16)


def test_each_image_has_its_grid_and_the_patches_of_all_follow_each_other(images):
    patches, grids, _ = images.patches([page(200, 300), page(64, 64)])
    assert patches.dtype is torch.bfloat16
    assert grids[:, 0].tolist() == [1, 1]
    assert len(patches) == int(grids.prod(1).sum())
    assert images.token_counts(grids) == (grids.prod(1) // 4).tolist()


@pytest.mark.parametrize("size", [(1400, 1000), (5000, 100)])
def test_no_image_has_more_pixels_than_the_limit(images, size):
    _, grids, _ = images.patches([page(*size)])
    assert int(grids.prod()) * images.patch_size**2 <= 100_000


def test_an_image_is_padded_with_white_where_a_side_is_short():
    image = page(40, 5)
    made = padded(image, SIDE)
    assert made.size == (40, SIDE)
    assert made.crop((0, 0, 40, 5)).tobytes() == image.tobytes()
    assert made.crop((0, 5, 40, SIDE)).getcolors() == [(40 * (SIDE - 5), (255, 255, 255))]


def test_an_image_whose_sides_are_long_enough_stays_as_it_is():
    image = page(SIDE, SIDE)
    assert padded(image, SIDE) is image


@pytest.mark.parametrize("size", [(1, SIDE * 201), (6000, 29)])
def test_an_image_that_is_too_thin_is_refused(size):
    with pytest.raises(Refusal, match="too long and thin") as refused:
        padded(page(*size), SIDE)
    assert refused.value.code is ErrorCode.BAD_IMAGE
