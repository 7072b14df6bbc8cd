"""Tokens per second and mean time to an answer over HTTP, of this service and of others.

    python -m benchmarks.serving

sends the requests of `benchmarks.batching` to:

- transformers serve: the library's own server (optional: `pip install openai`), which runs vision
  models one request at a time;
- batchable: BentoML's own batching around `generate`, at most 16 rows;
- in process: this project's engine, from encoded images to answers, without HTTP;
- service: the whole service, gateway and runner.

16 requests arrive at once, then at random over the time that the engine needed for them in process.
Then a number of clients each send the next request when they have an answer.
"""

import argparse
import asyncio
import signal
import tempfile
from functools import partial
from pathlib import Path

import torch
from transformers.utils.import_utils import is_openai_available

from benchmarks.support.clients import (
    Start,
    ask_batchable,
    ask_openai,
    ask_service,
    clients_in_turn,
    over_http,
    warm,
)
from benchmarks.support.in_process import in_process
from benchmarks.support.random_qwen import MODEL, arrivals_over, make_requests, make_weights
from benchmarks.support.schemes import ROUNDS, compare
from benchmarks.support.servers import bento, transformers_serve
from runners.torch_threads import in_own_thread

CLIENTS = (1, 4, 16, 32)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that its servers end with it
    torch.set_num_threads(arguments.threads)
    print(f"{arguments.dtype}, {arguments.threads} threads")
    with tempfile.TemporaryDirectory() as folder:
        in_own_thread(lambda: make_weights(Path(folder)))
        run(Path(folder), arguments.dtype, arguments.threads)


def run(weights: Path, dtype: str, threads: int) -> None:
    def start(target: str) -> Start:
        return lambda: bento(weights, dtype, threads, target)

    folder = weights / MODEL
    service = start("service:service")
    peers = {
        "batchable": over_http(start("benchmarks.support.batchable:Batchable"), ask_batchable),
        "in process": in_process(weights, dtype),
        "service": over_http(service, ask_service),
    }
    one_by_one = {}
    if is_openai_available():
        one_by_one["transformers serve"] = over_http(
            lambda: transformers_serve(folder, dtype, threads),
            lambda http, asked: ask_openai(http, asked, str(folder)),
        )
    else:
        print("transformers serve is left out: it needs the package openai")
    requests = make_requests(16, (16, 128), (100, 640))
    at_once = [0.0] * len(requests)
    figures = compare("16 requests, all there at the start", requests, at_once, one_by_one | peers)
    span = figures["in process"].seconds
    arrivals = arrivals_over(span, requests)
    compare(f"16 requests, arriving over {span:.0f} s", requests, arrivals, peers)

    print("\nThe service\n\n| clients | tokens/s | s to an answer |\n|---|---|---|")
    with service() as url:
        for clients in CLIENTS:
            asked = requests * max(1, clients // len(requests))
            ask_all = partial(clients_in_turn, requests=asked, clients=clients)
            runs = [asyncio.run(warm(url, ask_service, asked, ask_all)) for _ in range(ROUNDS)]
            best = max(runs, key=lambda run: run.rate)
            print(f"| {clients} | {best.rate:.1f} | {best.mean_wait:.2f} |", flush=True)


if __name__ == "__main__":
    main()
