"""The host's time per row and step beside the model: microseconds that a GPU would wait for.

    python -m benchmarks.host

A decode step consists of the model's forward and of the host's work for each row: the numbers that
the forward needs, sampling parameters, the new token, repetition, the stream, the scheduler and the
metrics. Here the forward is left out: the logits are there at once. So what is left is the host's
work, and a little for picking tokens from a small vocabulary. On a GPU it should stay small beside
a step: under 10 µs a row.
"""

import argparse
import asyncio
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor

from benchmarks.support.schemes import make_batcher, make_row
from runners.decoder.graphs import GraphedStep
from runners.scheduling.row import GREEDY, Sampling
from runners.vlm.token_streams import TokenStreams
from tests.support.models.text_vlm import TextVlm, encode

_ROWS = (1, 8, 32, 128)
_STEPS = 300
_VOCABULARY = 256
_ALL = Sampling(0.0, repetition_penalty=1.05, frequency_penalty=0.1, logprobs=0)
_PROMPT = 1000
"""Tokens of a row's prompt: four blocks of a GPU's cache."""


def main() -> None:
    argparse.ArgumentParser(description=__doc__.split("\n")[0]).parse_args()
    torch.set_num_threads(1)
    print("| rows | greedy, µs a row | streamed | temperature 0.7, seeded | penalties, log probs |")
    print("|---|---|---|---|---|")
    for rows in _ROWS:
        kinds = ((GREEDY, False), (GREEDY, True), (Sampling(0.7, seed=1), False), (_ALL, False))
        cells = [f"{1e6 * asyncio.run(host_time(rows, *kind)) / rows:.1f}" for kind in kinds]
        print(f"| {rows} | {' | '.join(cells)} |", flush=True)


async def host_time(count: int, sampling: Sampling, streamed: bool) -> float:
    """Mean seconds of a step of so many rows, without the few slowest ones, which others held up.

    streamed: whether an event loop gets each token.
    """
    vlm = TextVlm(block_size=256, reuse_bytes=0)
    logits = torch.rand(256, _VOCABULARY)

    def capture(run: Callable[[], Tensor]) -> tuple[Callable[[], object], Tensor]:
        return (lambda: None), logits

    vlm.decode_step = GraphedStep(vlm.decoder, vlm.pool, vlm.device, capture)
    vlm.stop_tokens = frozenset()
    streams = TokenStreams()
    batcher = make_batcher(vlm, after_tokens=streams.deliver)
    rows = [make_row(encode([1] * _PROMPT), _STEPS + 100, sampling) for _ in range(count)]
    for row in rows:
        row.on_token = streams.open().add if streamed else None
        batcher.submit(row)
    times: list[float] = []

    def steps() -> None:
        while not all(row.tokens for row in rows):
            batcher.step()
        for _ in range(_STEPS):
            logits[:] = torch.rand_like(logits)  # so that no row repeats itself
            began = time.perf_counter()
            batcher.step()
            times.append(time.perf_counter() - began)

    await asyncio.to_thread(steps)
    batcher.close()
    return statistics.mean(sorted(times)[: int(0.98 * len(times))])


if __name__ == "__main__":
    main()
