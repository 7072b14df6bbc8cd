"""Whole requests: tokens a second beside the library's `generate`, and waits while pages arrive."""

from benchmarks.gpu.machine import CUDA, DEVICE
from benchmarks.support.large_qwen import make_model, make_plain
from benchmarks.support.random_qwen import make_requests
from benchmarks.support.schemes import TOKEN_GAP, batching, compare, generating
from benchmarks.support.token_gap import UNSLICED, measure_gaps

_LARGE_SIDE, _TINY_SIDE = 2048, 480
"""Pixels of the sides of an arriving page; the large one becomes about 4,000 tokens."""
_TARGET = 100
"""Milliseconds that a row should wait for a token at most."""


def compare_schemes(tiny: bool) -> None:
    """All schemes get the same requests at once: the library's model, and the engine on another."""
    plain, processor = make_plain("2B", tiny, DEVICE)
    ours = batching(make_model("2B", tiny, DEVICE))
    schemes = {
        "one by one": generating(plain, processor, 1),
        "static 8": generating(plain, processor, 8),
        "static 16": generating(plain, processor, 16),
        "in flight": ours,
    }
    count = 4 if tiny else 32
    requests = make_requests(count, (4, 8) if tiny else (16, 96), (90, 130) if tiny else (300, 900))
    at_once = [0.0] * count
    schemes["static 16"](requests[:2], at_once[:2])  # the first run of a shape is slower
    ours(requests, at_once)
    compare(f"{count} requests, all there at the start", requests, at_once, schemes, rounds=1)


def measure_token_gaps(tiny: bool) -> None:
    side, rows, pages = (_TINY_SIDE, 2, 1) if tiny else (_LARGE_SIDE, 8, 4)
    print(f"Rows that run: {rows}; pages that arrive in turn: {pages}; target: {_TARGET} ms\n")
    print("| | alone, ms | while pages arrive, ms | s to a page's first token |\n|---|---|---|---|")
    for name, gap in (("in slices", TOKEN_GAP), ("without slices", UNSLICED)):
        vlm = make_model("2B", tiny, DEVICE, max_pixels=side**2)
        if CUDA:  # the graphs are captured, and the kernels loaded
            measure_gaps(vlm, rows, 1, side, gap)
        gaps = measure_gaps(vlm, rows, pages, side, gap)
        print(
            f"| {name} | {1e3 * gaps.alone:.0f} | {1e3 * gaps.with_pages:.0f} "
            f"| {gaps.first_token:.2f} |",
            flush=True,
        )
