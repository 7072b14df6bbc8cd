"""Tokens per second and mean time to an answer of in-flight batching and of other schemes.

    python -m benchmarks.batching

runs the same requests through each scheme in turn:

- one by one: the library's `generate`, one request at a time;
- static N: `generate` on up to N waiting requests, which all wait for the longest of them;
- in flight: this project's batcher as the service runs it.

All requests arrive at once, or at random over the time that in-flight batching needed for them.
Then it measures eight questions about one image, with and without reuse; how much of a step is the
model's forward; and how long running rows wait for a token while pages of 4,000 visual tokens
arrive. `benchmarks.serving` measures the same requests over HTTP, `benchmarks.host` the host's
share of a step alone.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.support.random_qwen import (
    arrivals_over,
    load_plain,
    load_served,
    make_requests,
    make_weights,
)
from benchmarks.support.schemes import (
    TOKEN_GAP,
    batching,
    compare,
    encode,
    generating,
    make_batcher,
    make_row,
)
from benchmarks.support.token_gap import UNSLICED, measure_gaps
from runners.families.qwen_vl import QwenVl
from runners.scheduling.row import GREEDY, Sampling
from runners.torch_threads import in_own_thread
from runners.vlm.interface import RowPart
from tests.support.models.prompts import page

LARGE_PAGE = 2048
"""Pixels of the side of a page of about 4,000 visual tokens."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--requests", type=int, default=16)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--gaps", action="store_true", help="only the waits while pages arrive")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    dtype = getattr(torch, arguments.dtype)
    with tempfile.TemporaryDirectory() as folder:
        in_own_thread(lambda: make_weights(Path(folder)))
        if not arguments.gaps:
            all_schemes(Path(folder), dtype, arguments.requests)
        in_own_thread(lambda: token_gaps(Path(folder), dtype))


def all_schemes(weights: Path, dtype: torch.dtype, count: int) -> None:
    model, processor = in_own_thread(lambda: load_plain(weights, dtype))
    served = in_own_thread(lambda: load_served(weights, dtype))
    size = sum(parameter.numel() for parameter in model.parameters()) / 1e6
    print(f"{size:.0f}M parameters, {dtype}, {torch.get_num_threads()} threads")
    ours = batching(served)
    schemes = {
        "one by one": generating(model, processor, 1),
        "static 8": generating(model, processor, 8),
        "static 16": generating(model, processor, 16),
        "in flight": ours,
    }
    requests = make_requests(count, (16, 128), (100, 640))
    at_once = [0.0] * count
    for scheme in (schemes["one by one"], ours):
        in_own_thread(
            partial(scheme, requests[:2], at_once[:2])
        )  # the first run of a shape is slower
    measured = compare(f"{count} requests, all there at the start", requests, at_once, schemes)
    span = measured["in flight"].seconds
    arrivals = arrivals_over(span, requests)
    few = {name: schemes[name] for name in ("static 16", "in flight")}
    compare(f"{count} requests, arriving over {span:.0f} s", requests, arrivals, few)

    question = replace(requests[0], image=page(640, 640), new_tokens=32)
    questions = [replace(question, prompt=f"Question {number}?") for number in range(8)]
    reusing = batching(in_own_thread(lambda: load_served(weights, dtype, reuse_mib=256)))
    both = {"without reuse": ours, "with reuse": reusing}
    compare("Eight questions on one image", questions, [0.0] * 8, both)

    in_own_thread(lambda: step_costs(served))


def step_costs(served: QwenVl) -> None:
    print("\nWhat of a step is the model's forward; the rest is sampling and the host's work\n")
    print("| rows | sampling | step, ms | forward, ms | share | rest, µs a row |")
    print("|---|---|---|---|---|---|")
    for rows, name, sampling in (
        (1, "greedy", GREEDY),
        (4, "greedy", GREEDY),
        (16, "greedy", GREEDY),
        (16, "temperature 0.7", Sampling(0.7)),
        (16, "temperature 0.7, top_p 0.95", Sampling(0.7, top_p=0.95)),
    ):
        step, forward = step_cost(served, rows, sampling)
        rest = 1e6 * (step - forward) / rows
        print(
            f"| {rows} | {name} | {1e3 * step:.1f} | {1e3 * forward:.1f} | {forward / step:.0%} "
            f"| {rest:.0f} |",
            flush=True,
        )


def step_cost(vlm: QwenVl, count: int, sampling: Sampling, steps: int = 20) -> tuple[float, float]:
    """Median seconds of a batcher's step of `count` rows, and of the model's forward in it."""
    forwards: list[float] = []
    decode = vlm.decode

    def timed(rows: Sequence[RowPart]) -> Tensor:
        began = time.perf_counter()
        logits = decode(rows)
        forwards.append(time.perf_counter() - began)
        return logits

    batcher = make_batcher(vlm)
    rows = [
        make_row(encode(vlm, asked), asked.new_tokens, sampling)
        for asked in make_requests(count, (500, 500), (300, 300))
    ]
    for row in rows:
        batcher.submit(row)
    while not all(row.tokens for row in rows):
        batcher.step()
    vlm.decode = timed  # type: ignore[method-assign]
    taken = []
    for _ in range(steps):
        began = time.perf_counter()
        batcher.step()
        taken.append(time.perf_counter() - began)
    vlm.decode = decode  # type: ignore[method-assign]
    batcher.close()
    return statistics.median(taken), statistics.median(forwards)


def token_gaps(weights: Path, dtype: torch.dtype) -> None:
    print("\nThe longest wait of four rows for a token while a page of 4,000 tokens arrives\n")
    print("| | alone, ms | while it arrives, ms | s to its first token |\n|---|---|---|---|")
    for name, gap in (("in slices", TOKEN_GAP), ("without slices", UNSLICED)):
        served = load_served(weights, dtype, max_pixels=LARGE_PAGE**2)
        gaps = measure_gaps(served, rows=4, pages=1, side=LARGE_PAGE, token_gap=gap)
        print(
            f"| {name} | {1e3 * gaps.alone:.0f} | {1e3 * gaps.with_pages:.0f} "
            f"| {gaps.first_token:.1f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
