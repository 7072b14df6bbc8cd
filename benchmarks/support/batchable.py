"""A BentoML service with BentoML's own batching around `generate`, for comparison.

`python -m benchmarks.serving` starts it.
"""

import io

import bentoml
import torch
from PIL import Image
from pydantic import Base64Bytes, BaseModel

from benchmarks.support.random_qwen import Asked, load_plain
from benchmarks.support.schemes import generate
from settings import settings

A_DAY = 24 * 3600
MOST_ROWS = 16


class Item(BaseModel):
    image: Base64Bytes
    prompt: str
    new_tokens: int


@bentoml.service(name="batchable", workers=1, traffic={"timeout": A_DAY})
class Batchable:
    def __init__(self) -> None:
        weights = settings().weights
        assert weights is not None, "the benchmark sets CHATVLM_WEIGHTS"
        self.model, self.processor = load_plain(weights, getattr(torch, settings().dtype))

    # Past its latency BentoML sheds load, which would leave requests out of the figures.
    @bentoml.api(batchable=True, max_batch_size=MOST_ROWS, max_latency_ms=A_DAY * 1000)
    def answer(self, items: list[Item]) -> list[int]:
        """How many tokens each got."""
        requests = [
            Asked(Image.open(io.BytesIO(item.image)), item.prompt, item.new_tokens)
            for item in items
        ]
        return [len(tokens) for tokens in generate(self.model, self.processor, requests)]
