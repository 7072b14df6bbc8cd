"""This project's engine without HTTP, from encoded images to answers."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

from benchmarks.support.clients import all_in_time, clients_in_turn, warm_up
from benchmarks.support.random_qwen import MODEL, Asked
from benchmarks.support.schemes import Measured, Scheme
from benchmarks.support.servers import TIME_LIMIT
from common.catalog import CATALOG
from common.deadline import Deadline
from common.messages import Request, Usage, single_turn
from runners.vlm.engine import VlmEngine
from settings import Settings


def make_engine(weights: Path, dtype: str, reuse_mib: float = 0) -> VlmEngine:
    return VlmEngine(CATALOG[MODEL], Settings(weights=weights, dtype=dtype, reuse_mib=reuse_mib))


async def ask_engine(engine: VlmEngine, asked: Asked) -> Usage:
    turns = single_turn([asked.png], asked.prompt)
    request = Request(task="chat", turns=turns, max_tokens=asked.new_tokens, temperature=0)
    answer = await engine.answer(request, Deadline(TIME_LIMIT))
    assert answer.usage is not None
    return answer.usage


def in_process(weights: Path, dtype: str) -> Scheme:
    engine = make_engine(weights, dtype)

    async def ask(asked: Asked) -> int:
        return (await ask_engine(engine, asked)).completion_tokens

    async def warmed(requests: Sequence[Asked], arrivals: Sequence[float]) -> Measured:
        await clients_in_turn(ask, warm_up(requests), clients=4)
        return await all_in_time(ask, requests, arrivals)

    return lambda requests, arrivals: asyncio.run(warmed(requests, arrivals))
