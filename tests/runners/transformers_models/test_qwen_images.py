from functools import partial

import pytest
import torch
from torchvision.transforms.v2 import InterpolationMode, functional
from transformers import Qwen2VLImageProcessor

from runners.image_sizes import padded
from runners.transformers_models.qwen_images import QwenImages
from runners.vlm.request_images import ImageFacts, RequestImage
from tests.support.models.prompts import page, request_image

SIDE = 28
QWEN3 = {"patch_size": 16, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}


@pytest.fixture(scope="module")
def images() -> QwenImages:
    return QwenImages(Qwen2VLImageProcessor(), 100_000, torch.bfloat16)


def test_each_image_has_its_grid_and_the_patches_of_all_follow_each_other(images):
    asked = [request_image(page(200, 300)), request_image(page(64, 64))]
    grids = images.grids(asked)
    patches = images.patches(asked, grids)
    assert patches.dtype is torch.bfloat16
    assert grids[:, 0].tolist() == [1, 1]
    assert len(patches) == int(grids.prod(1).sum())
    assert images.token_counts(grids) == (grids.prod(1) // 4).tolist()


@pytest.mark.parametrize("kind", [Qwen2VLImageProcessor, partial(Qwen2VLImageProcessor, **QWEN3)])
@pytest.mark.parametrize("size", [(200, 300), (640, 480), (40, 5), (999, 31)])
def test_the_patches_are_those_of_the_library_to_the_bit(kind, size):
    processor = kind()
    images = QwenImages(processor, 200_000, torch.float32)
    image = request_image(page(*size))
    height, width = images.sides(*size)
    resized = functional.resize(
        functional.pil_to_tensor(padded(image.pixels, images.token_size)),
        [height, width],
        InterpolationMode.BICUBIC,
        antialias=True,
    )
    made = processor(images=[resized], do_resize=False, return_tensors="pt")
    grids = images.grids([image])
    assert torch.equal(images.patches([image], grids), made["pixel_values"])
    assert torch.equal(grids, made["image_grid_thw"])
    assert images.seen_sizes(grids) == ((width, height),)


def test_the_grid_of_an_image_that_was_seen_before_needs_no_decoding(images):
    image = RequestImage(b"never decoded", b"key", ImageFacts((200, 300), (), is_blank=False))
    assert torch.equal(images.grids([image]), images.grids([request_image(page(200, 300))]))


@pytest.mark.parametrize("size", [(1400, 1000), (5000, 100)])
def test_no_image_has_more_pixels_than_the_limit(images, size):
    grids = images.grids([request_image(page(*size))])
    assert int(grids.prod()) * images.patch_size**2 <= 100_000


def test_images_share_the_tokens_that_they_may_have_together(images):
    asked = [request_image(page(1400, 1000)), request_image(page(64, 64))]
    alone, together = images.grids(asked), images.grids(asked, most_tokens=2 * 60)
    large, small = images.token_counts(together)
    assert 40 <= large <= 60 < images.token_counts(alone)[0]
    assert small == images.token_counts(alone)[1]
    assert len(images.patches(asked, together)) == int(together.prod(1).sum())


@pytest.mark.parametrize(("memory", "most"), [(10**6, 5000), (2000, 2000), (10, 1280)])
def test_memory_bounds_an_image_but_not_below_a_small_page(memory, most):
    images = QwenImages(Qwen2VLImageProcessor(), 5000 * SIDE**2, torch.float32)
    images.bound(memory)
    (tokens,) = images.token_counts(images.grids([request_image(page(2500, 2500))]))
    assert 0.9 * most < tokens <= most
