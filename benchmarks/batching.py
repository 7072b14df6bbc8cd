"""Tokens a second and the mean time to an answer: in-flight batching beside what else there is.

`python -m benchmarks.batching` makes a random Qwen3-VL of about 130M parameters (figures of speed
need no trained weights) and runs the same requests through each scheme in turn:

- one by one: the library's `generate`, a request at a time;
- static N: `generate` on up to N requests that are there, which all wait for the longest;
- concatenating: this project's batcher on a cache copied at every step, as the library's is;
- in flight: this project's batcher.

Requests are there all at once, or arrive at random over the time that in-flight batching needed for
them all at once. Then: eight questions on one image, with and without reuse, and what a step costs
beside the bare forward.
"""

import argparse
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor
from transformers import (
    AutoProcessor,
    ProcessorMixin,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
)
from transformers.cache_utils import DynamicLayer

from runners.batcher import Batcher, Row
from runners.kv import RowCache
from runners.messages import Request, question
from runners.metrics import Metrics
from runners.qwen_vl import QwenVl
from tests.checkpoints import make_checkpoint, spread
from tests.runners.vlm_helpers import page

MAX_PIXELS = 1_003_520
VOCABULARY = 151_936


@dataclass(frozen=True)
class Asked:
    image: Image.Image
    prompt: str
    new_tokens: int


@dataclass(frozen=True)
class Measured:
    seconds: float
    """Until the last answer."""
    mean_wait: float
    """From a request's arrival to its answer, seconds."""
    tokens: int

    @property
    def rate(self) -> float:
        """Tokens a second."""
        return self.tokens / self.seconds

    def __str__(self) -> str:
        return f"{self.rate:8.1f} tok/s {self.mean_wait:8.2f} s to an answer"


Scheme = Callable[[Sequence[Asked], Sequence[float]], Measured]
"""Requests and the seconds after which each arrives, ascending."""


def make_model(dtype: torch.dtype) -> tuple[Qwen3VLForConditionalGeneration, ProcessorMixin]:
    with tempfile.TemporaryDirectory() as name:
        folder = make_checkpoint("qwen3_vl_2b", Path(name))
        config = Qwen3VLConfig.from_pretrained(folder)
        processor = AutoProcessor.from_pretrained(folder)
    text, vision = config.text_config, config.vision_config
    text.update(
        {
            "vocab_size": VOCABULARY,
            "hidden_size": 512,
            "intermediate_size": 1536,
            "num_hidden_layers": 12,
            "num_attention_heads": 8,
            "num_key_value_heads": 4,
            "head_dim": 64,
            "rope_parameters": text.rope_parameters | {"mrope_section": [16, 8, 8]},
        }
    )
    vision.update(
        {"hidden_size": 256, "intermediate_size": 1024, "num_heads": 4, "out_hidden_size": 512}
    )
    torch.manual_seed(0)
    model = Qwen3VLForConditionalGeneration(config)
    spread(model)
    model.generation_config.update(eos_token_id=None, pad_token_id=0, do_sample=False)
    return model.to(dtype).eval().requires_grad_(False), processor


def make_requests(count: int, new_tokens: tuple[int, int], sides: tuple[int, int]) -> list[Asked]:
    dice = random.Random(0)
    return [
        Asked(
            page(dice.randint(*sides), dice.randint(*sides), number),
            "What is this?",
            dice.randint(*new_tokens),
        )
        for number in range(count)
    ]


def generating(
    model: Qwen3VLForConditionalGeneration, processor: ProcessorMixin, batch: int
) -> Scheme:
    def run(requests: Sequence[Asked], arrivals: Sequence[float]) -> Measured:
        start, waits, done = time.monotonic(), [], 0
        while done < len(requests):
            while time.monotonic() - start < arrivals[done]:
                time.sleep(0.001)
            now = time.monotonic() - start
            end = done + 1
            while end < len(requests) and end - done < batch and arrivals[end] <= now:
                end += 1
            generate(requests[done:end])
            now = time.monotonic() - start
            waits += [now - arrival for arrival in arrivals[done:end]]
            done = end
        tokens = sum(asked.new_tokens for asked in requests)
        return Measured(time.monotonic() - start, sum(waits) / len(waits), tokens)

    def generate(requests: Sequence[Asked]) -> None:
        turns = [
            [
                {
                    "role": "user",
                    "content": [
                        {"type": "image", "image": asked.image},
                        {"type": "text", "text": asked.prompt},
                    ],
                }
            ]
            for asked in requests
        ]
        inputs = processor.apply_chat_template(
            turns,
            tokenize=True,
            add_generation_prompt=True,
            return_dict=True,
            return_tensors="pt",
            processor_kwargs={"padding": True, "padding_side": "left"},
        )
        inputs["pixel_values"] = inputs["pixel_values"].to(model.dtype)
        with torch.inference_mode():
            model.generate(**inputs, max_new_tokens=max(asked.new_tokens for asked in requests))

    return run


def batching(
    model: Qwen3VLForConditionalGeneration,
    processor: ProcessorMixin,
    cache: Callable[[], RowCache],
    reuse_bytes: int = 0,
) -> Scheme:
    def run(requests: Sequence[Asked], arrivals: Sequence[float]) -> Measured:
        vlm = make_vlm(model, processor, reuse_bytes)
        batcher = Batcher(vlm, Metrics("benchmark"), 2**33, 60.0, cache())
        batcher.start()
        waits: list[float] = []
        rows: list[Row] = []

        def note(due: float, _: object) -> None:
            waits.append(time.monotonic() - due)

        start = time.monotonic()
        for asked, arrival in zip(requests, arrivals, strict=True):
            while time.monotonic() - start < arrival:
                time.sleep(0.001)
            row = make_row(vlm, asked)
            row.future.add_done_callback(partial(note, start + arrival))
            batcher.submit(row)
            rows.append(row)
        tokens = sum(len(row.future.result().tokens) for row in rows)
        seconds = time.monotonic() - start
        batcher.close()
        return Measured(seconds, sum(waits) / len(waits), tokens)

    return run


def make_vlm(
    model: Qwen3VLForConditionalGeneration, processor: ProcessorMixin, reuse_bytes: int = 0
) -> QwenVl:
    vlm = QwenVl(model, processor, MAX_PIXELS, reuse_bytes)
    vlm.stop_tokens = frozenset()
    return vlm


def make_row(vlm: QwenVl, asked: Asked) -> Row:
    request = Request(task="chat", turns=question([b""], asked.prompt), time_limit=0)
    return Row(vlm.encode(request, [asked.image]), asked.new_tokens, float("inf"))


class ConcatenatingCache(RowCache):
    """Rows that end at the same column, left-padded, each step a concatenation: the baseline."""

    def join(self, prompt: Sequence[tuple[Tensor, Tensor]]) -> None:
        if not self.lengths:
            self.layers = [DynamicLayer() for _ in prompt]
        length = prompt[0][0].shape[2]
        width = max(self.width, length)
        for layer, (keys, values) in zip(self.layers, prompt, strict=True):
            if not self.lengths:
                layer.update(keys, values)
            else:
                layer.keys = torch.cat([_padded(layer.keys, width), _padded(keys, width)])
                layer.values = torch.cat([_padded(layer.values, width), _padded(values, width)])
        self.lengths.append(length)

    def leave(self, row: int) -> None:
        last = len(self.lengths) - 1
        order = [last if kept == row else kept for kept in range(last)]
        self.lengths = [self.lengths[kept] for kept in order]
        for layer in self.layers:
            layer.batch_select_indices(torch.tensor(order, dtype=torch.long))
            if order:
                layer.keys = layer.keys[:, :, -self.width :]
                layer.values = layer.values[:, :, -self.width :]

    def open(self) -> Tensor:
        width = self.width + 1
        first = torch.tensor([width - 1 - length for length in self.lengths])
        return torch.arange(width) >= first[:, None]

    def release(self) -> None:
        self.lengths = []
        self.layers = []

    @property
    def held_bytes(self) -> int:
        return 0

    @property
    def bytes_per_token(self) -> int:
        return 0


def _padded(tensor: Tensor, width: int) -> Tensor:
    return torch.nn.functional.pad(tensor, (0, 0, width - tensor.shape[2], 0))


def step_cost(
    model: Qwen3VLForConditionalGeneration, processor: ProcessorMixin, count: int, steps: int = 20
) -> tuple[float, float]:
    """Median seconds of a batcher's step of `count` rows, and of the bare forward of the same.

    The bare forward is the model on ready tensors: it writes the open column again and again. The
    two alternate, so that what else the machine does burdens both.
    """
    vlm, cache = make_vlm(model, processor), RowCache()
    batcher = Batcher(vlm, Metrics("benchmark"), 2**33, 60.0, cache)
    for asked in make_requests(count, (500, 500), (300, 300)):
        batcher.submit(make_row(vlm, asked))
    for _ in range(count + 3):
        batcher.step()
    taken, bare = [], []
    for _ in range(steps):
        with torch.inference_mode():
            mask = cache.open()
            tokens = torch.zeros(count, dtype=torch.long)
            positions = torch.tensor(cache.lengths)
            start = time.perf_counter()
            vlm.decode(tokens, positions, mask, cache)
            bare.append(time.perf_counter() - start)
        start = time.perf_counter()
        batcher.step()
        taken.append(time.perf_counter() - start)
    batcher.close()
    return statistics.median(taken), statistics.median(bare)


def compare(
    title: str, requests: Sequence[Asked], arrivals: Sequence[float], schemes: dict[str, Scheme]
) -> None:
    """Prints each scheme's figures, and its ratios to the first's.

    Where the machine is shared, the tokens per CPU second (with one thread) are the steadier ones.
    """
    print(f"\n{title}", flush=True)
    first: Measured | None = None
    for name, scheme in schemes.items():
        cpu = time.process_time()
        measured = scheme(requests, arrivals)
        per_cpu = measured.tokens / (time.process_time() - cpu)
        first = first or measured
        faster = measured.rate / first.rate
        sooner = first.mean_wait / measured.mean_wait
        print(
            f"  {name:<16} {measured}   x{faster:.2f}   x{sooner:.2f} sooner   "
            f"{per_cpu:6.1f} tok per CPU second",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--requests", type=int, default=16)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--long", action="store_true", help="32 large pages of 512 tokens instead")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    model, processor = make_model(getattr(torch, arguments.dtype))
    size = sum(parameter.numel() for parameter in model.parameters()) / 1e6
    print(f"{size:.0f}M parameters, {arguments.dtype}, {arguments.threads} threads")

    ours = batching(model, processor, RowCache)
    concatenating = batching(model, processor, ConcatenatingCache)
    if arguments.long:
        requests = make_requests(32, (512, 512), (1000, 1024))
        both = {"concatenating": concatenating, "in flight": ours}
        compare("32 pages of about 1,000 visual tokens", requests, [0.0] * 32, both)
        return

    requests = make_requests(arguments.requests, (16, 128), (100, 640))
    at_once = [0.0] * len(requests)
    schemes = {
        "one by one": generating(model, processor, 1),
        "static 8": generating(model, processor, 8),
        "static 16": generating(model, processor, 16),
        "concatenating": concatenating,
        "in flight": ours,
    }
    for scheme in (schemes["one by one"], ours):
        scheme(requests[:2], at_once[:2])  # the first run of a shape is slower
    compare("All requests there at the start", requests, at_once, schemes)

    span = ours(requests, at_once).seconds
    dice = random.Random(1)
    arrivals = sorted(dice.uniform(0, span) for _ in requests)
    compare(f"Arriving at random over {span:.0f} s", requests, arrivals, schemes)

    question = replace(requests[0], image=page(640, 640), new_tokens=32)
    questions = [replace(question, prompt=f"Question {number}?") for number in range(8)]
    reusing = batching(model, processor, RowCache, reuse_bytes=2**28)
    both = {"without reuse": ours, "with reuse": reusing}
    compare("Eight questions on one image", questions, [0.0] * 8, both)

    print("\nA step beside the bare forward")
    for count in (1, 4, 16):
        taken, bare = step_cost(model, processor, count)
        print(f"  {count:2} rows {taken * 1e3:7.1f} ms {bare * 1e3:7.1f} ms   x{taken / bare:.3f}")


if __name__ == "__main__":
    main()
