"""Tokens per second and mean time to an answer of in-flight batching and of other schemes.

    python -m benchmarks.batching [--long]

runs the same requests through each scheme in turn:

- one by one: the library's `generate`, one request at a time;
- static N: `generate` on up to N waiting requests, which all wait for the longest of them;
- plain weights: this project's batcher on the model as the library loads it;
- copying: this project's batcher with a cache that is copied at every step;
- in flight: this project's batcher as the service runs it.

All requests arrive at once, or at random over the time that in-flight batching needed for them.
Then it measures eight questions about one image, with and without reuse, and the time of a step
compared with the bare forward pass. `benchmarks.serving` measures the same requests over HTTP.
"""

import argparse
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import torch

from benchmarks.support.random_qwen import (
    arrivals_over,
    load_plain,
    load_served,
    make_requests,
    make_weights,
)
from benchmarks.support.schemes import (
    ConcatenatingCache,
    batching,
    compare,
    generating,
    make_batcher,
    make_row,
)
from runners.families.qwen_vl import QwenVl
from runners.vlm.kv_cache import KvCache
from runners.vlm.sampling import GREEDY, Sampling
from tests.support.models.prompts import page

MAX_PIXELS = 1_003_520


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--requests", type=int, default=16)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--long", action="store_true", help="32 large pages of 512 tokens instead")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    dtype = getattr(torch, arguments.dtype)
    with tempfile.TemporaryDirectory() as folder:
        make_weights(Path(folder))
        if arguments.long:
            long_pages(load_served(Path(folder), dtype))
        else:
            all_schemes(Path(folder), dtype, arguments.requests)


def long_pages(served: QwenVl) -> None:
    both = {"copying": batching(served, ConcatenatingCache), "in flight": batching(served)}
    requests = make_requests(32, (512, 512), (1000, 1024))
    compare("32 pages of about 1,000 visual tokens, 512 new tokens each", requests, [0] * 32, both)


def all_schemes(weights: Path, dtype: torch.dtype, count: int) -> None:
    model, processor = load_plain(weights, dtype)
    served = load_served(weights, dtype)
    size = sum(parameter.numel() for parameter in model.parameters()) / 1e6
    print(f"{size:.0f}M parameters, {dtype}, {torch.get_num_threads()} threads")
    ours = batching(served)
    schemes = {
        "one by one": generating(model, processor, 1),
        "static 8": generating(model, processor, 8),
        "static 16": generating(model, processor, 16),
        "plain weights": batching(QwenVl(model, processor, MAX_PIXELS, reuse_bytes=0)),
        "copying": batching(served, ConcatenatingCache),
        "in flight": ours,
    }
    requests = make_requests(count, (16, 128), (100, 640))
    at_once = [0.0] * count
    for scheme in (schemes["one by one"], ours):
        scheme(requests[:2], at_once[:2])  # the first run of a shape is slower
    measured = compare(f"{count} requests, all there at the start", requests, at_once, schemes)
    span = measured["in flight"].seconds
    arrivals = arrivals_over(span, requests)
    few = {name: schemes[name] for name in ("static 16", "copying", "in flight")}
    compare(f"{count} requests, arriving over {span:.0f} s", requests, arrivals, few)

    question = replace(requests[0], image=page(640, 640), new_tokens=32)
    questions = [replace(question, prompt=f"Question {number}?") for number in range(8)]
    reusing = batching(load_served(weights, dtype, reuse_mib=256))
    both = {"without reuse": ours, "with reuse": reusing}
    compare("Eight questions on one image", questions, [0.0] * 8, both)

    step_costs(served)


def step_costs(served: QwenVl) -> None:
    print("\nA step beside the bare forward\n")
    print("| rows | sampling | step, ms | forward, ms | |\n|---|---|---|---|---|")
    for rows, name, sampling in (
        (1, "greedy", GREEDY),
        (4, "greedy", GREEDY),
        (16, "greedy", GREEDY),
        (16, "temperature 0.7", Sampling(0.7)),
        (16, "temperature 0.7, top_p 0.95", Sampling(0.7, top_p=0.95)),
    ):
        taken, bare = step_cost(served, rows, sampling)
        print(f"| {rows} | {name} | {taken * 1e3:.1f} | {bare * 1e3:.1f} | x{taken / bare:.3f} |")


def step_cost(vlm: QwenVl, count: int, sampling: Sampling, steps: int = 20) -> tuple[float, float]:
    """Median seconds of a batcher's step of `count` rows, and of the bare forward of the same.

    The bare forward is the model on ready tensors: it writes the open column again and again. The
    two alternate, so that what else the machine does burdens both.
    """
    cache = KvCache()
    batcher = make_batcher(vlm, cache)
    for asked in make_requests(count, (500, 500), (300, 300)):
        row = make_row(vlm, asked)
        row.sampling = sampling
        batcher.submit(row)
    for _ in range(count + 3):
        batcher.step()
    taken, bare = [], []
    for _ in range(steps):
        with torch.inference_mode():
            mask = cache.begin_step()
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


if __name__ == "__main__":
    main()
