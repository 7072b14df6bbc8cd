"""The sizes that docs/deployment.md computes, computed again."""

import re

from common.catalog import CATALOG
from settings import Settings
from tests.support.markdown import read

ROW = re.compile(
    r"^\| `(\w+)` \| ([\d.]+) \| (\d+) x (\d+) x (\d+) \| (\d+) \| (\d+) \| ([\d.]+) \|$", re.M
)
ANSWER = 2048
"""Tokens."""
PIXELS_OF_A_TOKEN = {"qwen_vl": 28**2, "qwen3_vl": 32**2, "dots_ocr": 28**2}
GOT_TOKENS = 7 * 256
"""Visual tokens of the largest page: six tiles, and the whole in one."""


def visual_tokens(model: str) -> int:
    series = model.rpartition("_")[0] if model.endswith("b") else model
    pixels = PIXELS_OF_A_TOKEN.get(series)
    return Settings().max_pixels_of(CATALOG[model], on_gpu=True) // pixels if pixels else GOT_TOKENS


def test_the_memory_of_every_model_follows_from_its_shape() -> None:
    rows = ROW.findall(read("docs/deployment.md"))
    assert [row[0] for row in rows] == [e.id for e in CATALOG.values() if e.repository]
    for model, weights, layers, heads, size, token_kib, row_mib, total in rows:
        assert float(weights) == CATALOG[model].weights_gib
        token = int(layers) * int(heads) * int(size) * 4
        assert token == int(token_kib) * 1024
        row = token * (visual_tokens(model) + ANSWER)
        assert round(row / 2**20) == int(row_mib)
        kept = Settings().reuse_mib / 1024
        assert round(float(weights) + kept + 8 * row / 2**30, 1) == float(total)
