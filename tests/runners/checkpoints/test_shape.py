import json

import pytest

from runners.checkpoints.shape import ANSWER, kv_page_bytes, kv_token_bytes, page_tokens
from runners.families import got_ocr, qwen_vl
from settings import Settings
from tests.support.models.checkpoints import make_checkpoint
from tests.support.models.entries import listed
from tests.support.models.prompts import ocr, page

FAMILIES = {"qwen_vl_2b": qwen_vl, "qwen2_5_vl_3b": qwen_vl, "qwen3_vl_2b": qwen_vl}


@pytest.mark.parametrize("model", [*FAMILIES, "got_ocr"])
def test_it_is_what_the_loaded_model_takes(model, tmp_path):
    folder = make_checkpoint(model, tmp_path / model)
    config = json.loads((folder / "config.json").read_text())
    with listed(model) as entry:
        family = FAMILIES.get(model, got_ocr)
        vlm = family.load(entry, Settings(weights=tmp_path, dtype="float32"))
    assert kv_token_bytes(config, 4) == vlm.pool.bytes_per_column
    encoded = vlm.encode(ocr(page(1400, 1000)))
    pixels = Settings().max_pixels_of(entry, on_gpu=False)
    tokens = page_tokens(config, pixels)
    assert tokens * 0.95 < encoded.visual_tokens <= tokens
    assert kv_page_bytes(config, pixels, 2) == (tokens + ANSWER) * kv_token_bytes(config, 2)


PUBLISHED = {
    "qwen3_vl_8b": (
        {
            "text_config": {
                "num_hidden_layers": 36,
                "num_attention_heads": 32,
                "num_key_value_heads": 8,
                "head_dim": 128,
                "hidden_size": 4096,
            },
            "vision_config": {"patch_size": 16, "spatial_merge_size": 2},
        },
        144,
        980,
    ),
    "qwen_vl_7b": (  # an older config, without a part for the text
        {
            "num_hidden_layers": 28,
            "num_attention_heads": 28,
            "num_key_value_heads": 4,
            "hidden_size": 3584,
            "vision_config": {"patch_size": 14, "spatial_merge_size": 2},
        },
        56,
        1280,
    ),
}


@pytest.mark.parametrize(("config", "kib", "tokens"), PUBLISHED.values(), ids=PUBLISHED)
def test_published_shapes_give_the_numbers_of_the_documents(config, kib, tokens):
    assert kv_token_bytes(config, 2) == kib * 1024
    assert page_tokens(config, 1_003_520) == tokens
