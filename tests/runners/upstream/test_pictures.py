import base64
import io

import pytest
import torch
from PIL import Image, ImageChops
from transformers import Qwen2VLImageProcessor

from common.catalog import CATALOG
from common.failures import ErrorCode, Refusal
from runners.transformers_models.qwen_images import QwenImages
from runners.upstream.pictures import make_pictures
from tests.support.models.prompts import page, request_image

MAX_PIXELS = 300_000
PATCHES = {
    "qwen_vl_2b": {"patch_size": 14, "size": {"shortest_edge": 56**2, "longest_edge": 10**8}},
    "qwen3_vl_2b": {"patch_size": 16, "size": {"shortest_edge": 65536, "longest_edge": 10**8}},
}


def sent(picture) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(picture.url.partition(",")[2])))


@pytest.mark.parametrize("model", PATCHES)
@pytest.mark.parametrize(
    "size", [(200, 300), (640, 480), (1500, 1100), (40, 5), (999, 31), (60, 60)]
)
def test_a_model_sees_an_image_in_the_size_in_which_it_sees_it_here(model, size):
    """The server sizes what it is sent as the library does, and so leaves its size."""
    image = request_image(page(*size))
    (picture,) = make_pictures([image], CATALOG[model], MAX_PIXELS, None)
    processor = Qwen2VLImageProcessor(**PATCHES[model])
    grids = QwenImages(processor, MAX_PIXELS, torch.float32).grids([image])
    side = CATALOG[model].visual_token_side
    assert picture.size == size
    assert (picture.seen,) == QwenImages(processor, MAX_PIXELS, torch.float32).seen_sizes(grids)
    assert picture.visual_tokens == int(grids.prod()) // 4
    assert sent(picture).size == picture.seen
    there = processor(images=[sent(picture)], return_tensors="pt")["image_grid_thw"]
    assert torch.equal(there, grids)
    assert picture.seen[0] % side == 0


def test_an_image_whose_size_fits_is_sent_as_it_is():
    image = request_image(page(416, 320))
    (picture,) = make_pictures([image], CATALOG["qwen3_vl_2b"], MAX_PIXELS, None)
    assert ImageChops.difference(sent(picture), image.pixels).getbbox() is None


def test_the_scale_leads_from_what_is_seen_to_the_upright_image():
    entry = CATALOG["dots_ocr"]
    (picture,) = make_pictures([request_image(page(2800, 5600))], entry, 280 * 560, None)
    assert (picture.seen, picture.scale) == ((280, 560), (10, 10))
    (strip,) = make_pictures([request_image(page(560, 7))], entry, MAX_PIXELS, None)
    assert (strip.padded_size, strip.scale) == ((560, 28), (1, 1))


def test_images_share_what_the_server_takes():
    images = [request_image(page(2000, 2000)) for _ in range(3)]
    pictures = make_pictures(images, CATALOG["qwen3_vl_2b"], 10**7, 1500)
    assert all(350 <= picture.visual_tokens <= 400 for picture in pictures)
    (alone,) = make_pictures(images[:1], CATALOG["qwen3_vl_2b"], 10**7, None)
    assert alone.visual_tokens > 3800


def test_an_image_that_is_too_thin_is_refused():
    with pytest.raises(Refusal) as refused:
        make_pictures([request_image(page(7000, 2))], CATALOG["qwen3_vl_2b"], MAX_PIXELS, None)
    assert refused.value.code is ErrorCode.BAD_IMAGE
