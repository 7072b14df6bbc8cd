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
import base64
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import torch
from transformers.utils.import_utils import is_openai_available

from benchmarks.support.random_qwen import MODEL, Asked, arrivals_over, make_requests, make_weights
from benchmarks.support.schemes import ROUNDS, Measured, Scheme, compare
from common.catalog import CATALOG
from common.deadline import Deadline
from common.messages import Request, single_turn
from runners.vlm.engine import VlmEngine
from settings import Settings
from tests.support.server import Server, free_port

CLIENTS = (1, 4, 16, 32)
WARM_UP = 24
"""Requests of one token, four at a time: BentoML's batching learns from the first fourteen."""
START_SECONDS = 120
TIME_LIMIT = 3600

Start = Callable[[], AbstractContextManager[str]]
"""A running server's URL."""
Ask = Callable[[Asked], Awaitable[int]]
"""Gives the number of tokens made."""
Send = Callable[[aiohttp.ClientSession, Asked], Awaitable[int]]
"""The same, over HTTP."""


def over_http(start: Start, send: Send) -> Scheme:
    def run(requests: Sequence[Asked], arrivals: Sequence[float]) -> Measured:
        with start() as url:
            ask_all = partial(all_in_time, requests=requests, arrivals=arrivals)
            return asyncio.run(warm(url, send, requests, ask_all))

    return run


def in_process(weights: Path, dtype: str) -> Scheme:
    engine = VlmEngine(CATALOG[MODEL], Settings(weights=weights, dtype=dtype, reuse_mib=0))

    async def ask(asked: Asked) -> int:
        turns = single_turn([asked.png], asked.prompt)
        request = Request(task="chat", turns=turns, max_tokens=asked.new_tokens)
        answer = await engine.answer(request, Deadline(TIME_LIMIT))
        assert answer.usage is not None
        return answer.usage.completion_tokens

    async def warmed(requests: Sequence[Asked], arrivals: Sequence[float]) -> Measured:
        await clients_in_turn(ask, warm_up(requests), clients=4)
        return await all_in_time(ask, requests, arrivals)

    return lambda requests, arrivals: asyncio.run(warmed(requests, arrivals))


async def all_in_time(ask: Ask, requests: Sequence[Asked], arrivals: Sequence[float]) -> Measured:
    began = time.monotonic()

    async def answer(asked: Asked, arrival: float) -> tuple[int, float]:
        await asyncio.sleep(began + arrival - time.monotonic())
        return await ask(asked), time.monotonic() - began - arrival

    return measured(began, await asyncio.gather(*map(answer, requests, arrivals)))


async def clients_in_turn(ask: Ask, requests: Sequence[Asked], clients: int) -> Measured:
    """Each client asks the next of the requests once it is answered."""
    left, answers = iter(requests), list[tuple[int, float]]()
    began = time.monotonic()

    async def client() -> None:
        for asked in left:
            sent = time.monotonic()
            answers.append((await ask(asked), time.monotonic() - sent))

    await asyncio.gather(*(client() for _ in range(clients)))
    return measured(began, answers)


def measured(began: float, answers: Sequence[tuple[int, float]]) -> Measured:
    """answers: tokens and seconds of each."""
    waits = [seconds for _, seconds in answers]
    tokens = sum(tokens for tokens, _ in answers)
    return Measured(time.monotonic() - began, sum(waits) / len(waits), tokens)


async def warm(
    url: str,
    send: Send,
    requests: Sequence[Asked],
    run: Callable[[Ask], Awaitable[Measured]],
) -> Measured:
    """What `run` gives on a server that has answered before."""
    async with aiohttp.ClientSession(url, timeout=aiohttp.ClientTimeout(None)) as http:
        ask = partial(send, http)
        await clients_in_turn(ask, warm_up(requests), clients=4)
        return await run(ask)


def warm_up(requests: Sequence[Asked]) -> list[Asked]:
    for asked in requests:
        assert asked.png, "encoded before the clock runs"
    return [replace(requests[0], new_tokens=1)] * WARM_UP


async def ask_service(http: aiohttp.ClientSession, asked: Asked) -> int:
    form = aiohttp.FormData(
        {
            "model": MODEL,
            "prompt": asked.prompt,
            "temperature": "0",
            "max_tokens": str(asked.new_tokens),
        }
    )
    form.add_field("file", asked.png, filename="page.png")
    async with http.post("/chat", data=form) as response:
        return int((await answered(response))["usage"]["completion_tokens"])


async def ask_batchable(http: aiohttp.ClientSession, asked: Asked) -> int:
    item = {
        "image": base64.b64encode(asked.png).decode(),
        "prompt": asked.prompt,
        "new_tokens": asked.new_tokens,
    }
    async with http.post("/answer", json={"items": [item]}) as response:
        (tokens,) = await answered(response)
        return int(tokens)


async def ask_transformers(http: aiohttp.ClientSession, asked: Asked, model: str) -> int:
    image = f"data:image/png;base64,{base64.b64encode(asked.png).decode()}"
    turn = {
        "role": "user",
        "content": [
            {"type": "image_url", "image_url": {"url": image}},
            {"type": "text", "text": asked.prompt},
        ],
    }
    body = {"model": model, "messages": [turn], "max_tokens": asked.new_tokens}
    async with http.post("/v1/chat/completions", json=body) as response:
        return int((await answered(response))["usage"]["completion_tokens"])


async def answered(response: aiohttp.ClientResponse) -> Any:
    if response.status != 200:
        raise RuntimeError(f"{response.url} answered {response.status}: {await response.text()}")
    return await response.json()


@contextmanager
def bento(weights: Path, dtype: str, threads: int, target: str) -> Iterator[str]:
    with Server(
        target=target,
        threads=threads,
        models=MODEL,
        weights=weights,
        dtype=dtype,
        request_timeout=TIME_LIMIT,
        reuse_mib=0,
    ) as server:
        yield str(server.client.base_url)


@contextmanager
def transformers_serve(folder: Path, dtype: str, threads: int) -> Iterator[str]:
    port = free_port()
    program = str(Path(sys.executable).with_name("transformers"))
    address = ["--host", "127.0.0.1", "--port", str(port)]
    process = subprocess.Popen(
        [program, "serve", str(folder), "--dtype", dtype, *address],
        env={**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": str(threads)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        url = f"http://127.0.0.1:{port}"
        asyncio.run(until_healthy(url))
        yield url
    finally:
        process.terminate()
        process.wait()


async def until_healthy(url: str) -> None:
    async with asyncio.timeout(START_SECONDS), aiohttp.ClientSession(url) as http:
        while True:
            try:
                async with http.get("/health") as response:
                    if response.status == 200:
                        return
            except aiohttp.ClientError:
                pass
            await asyncio.sleep(0.2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that its servers end with it
    torch.set_num_threads(arguments.threads)
    print(f"{arguments.dtype}, {arguments.threads} threads")
    with tempfile.TemporaryDirectory() as folder:
        make_weights(Path(folder))
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
            lambda http, asked: ask_transformers(http, asked, str(folder)),
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
