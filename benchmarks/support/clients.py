"""Sends the requests of the benchmarks to servers, and measures when their answers come."""

import asyncio
import base64
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import partial
from typing import Any

import aiohttp

from benchmarks.support.random_qwen import MODEL, Asked
from benchmarks.support.schemes import Measured, Scheme

WARM_UP = 24
"""Requests of one token, four at a time: BentoML's batching learns from the first fourteen."""

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


async def ask_openai(http: aiohttp.ClientSession, asked: Asked, model: str, **more: object) -> int:
    """Asks a server with OpenAI's routes. more: fields of the body that not every server knows."""
    image = f"data:image/png;base64,{base64.b64encode(asked.png).decode()}"
    turn = {
        "role": "user",
        "content": [
            {"type": "image_url", "image_url": {"url": image}},
            {"type": "text", "text": asked.prompt},
        ],
    }
    body = {"model": model, "messages": [turn], "max_tokens": asked.new_tokens, **more}
    async with http.post("/v1/chat/completions", json=body) as response:
        return int((await answered(response))["usage"]["completion_tokens"])


async def answered(response: aiohttp.ClientResponse) -> Any:
    if response.status != 200:
        raise RuntimeError(f"{response.url} answered {response.status}: {await response.text()}")
    return await response.json()
