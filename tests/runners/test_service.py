import asyncio

import pytest

from common.catalog import CATALOG
from common.failures import ErrorCode, Refusal
from runners.service import make_runner
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
