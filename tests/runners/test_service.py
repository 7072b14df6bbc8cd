import asyncio

import pytest

from common.catalog import CATALOG
from common.failures import ErrorCode, Refusal
from common.messages import Status
from runners.reader.engine import ReaderEngine
from runners.service import engine_of, make_runner
from runners.upstream.engine import UpstreamEngine
from runners.vlm.engine import VlmEngine
from settings import Settings


class SlowEngine:
    """Loads when it is told to."""

    def __init__(self, *_) -> None:
        self.may_load = asyncio.Event()
        self.refusal: Refusal | None = None

    async def load(self) -> None:
        await self.may_load.wait()
        if self.refusal:
            raise self.refusal


def runner(**settings):
    return make_runner(CATALOG["got_ocr"], Settings(**settings), SlowEngine).inner()


async def test_a_runner_that_preloads_nothing_is_ready_at_once():
    idle = runner(preload=("dots_ocr",))
    await idle.preload()
    assert await idle.__is_ready__()


@pytest.mark.parametrize(
    "refusal", [None, Refusal(ErrorCode.UNAVAILABLE, "Its weights are not here.")]
)
async def test_a_runner_is_ready_once_its_model_is_loaded_or_cannot_be(refusal):
    preloading = runner(preload=("got_ocr",))
    preloading.engine.refusal = refusal
    await preloading.preload()
    await asyncio.sleep(0)
    assert not await preloading.__is_ready__()
    preloading.engine.may_load.set()
    await asyncio.wait_for(preloading.preloading, 5)
    assert await preloading.__is_ready__()


class UpstreamGoes(SlowEngine):
    state = "loaded"

    async def status(self) -> Status:
        return Status(state=self.state, is_upstream=True)


async def test_a_runner_before_an_upstream_is_ready_while_the_upstream_answers():
    settings = Settings(upstream={"dots_ocr": "http://host:8000/v1"})
    before = make_runner(CATALOG["dots_ocr"], settings, UpstreamGoes).inner()
    assert await before.__is_ready__()
    before.engine.state = "unavailable"
    assert not await before.__is_ready__()


def test_a_model_with_an_upstream_is_asked_there_and_nothing_of_it_is_loaded():
    settings = Settings(upstream={"dots_ocr": "http://host:8000/v1"})
    assert engine_of(CATALOG["dots_ocr"], settings) is UpstreamEngine
    assert engine_of(CATALOG["qwen3_vl_2b"], settings) is VlmEngine
    assert engine_of(CATALOG["reader"], settings) is ReaderEngine
