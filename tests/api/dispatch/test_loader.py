import asyncio

import pytest

from common.failures import ErrorCode, Refusal
from tests.support.fakes.machine import Machine


async def test_newcomers_at_once_are_let_in_one_after_the_other():
    machine = Machine(8)
    machine.hold("got_ocr", idle=9)
    await asyncio.gather(*map(machine.load, ("qwen3_vl_2b", "qwen3_vl_4b")))
    assert machine.events == ["+qwen3_vl_2b", "-got_ocr", "+qwen3_vl_4b"]


async def test_newcomers_to_one_model_share_its_load():
    machine = Machine(80, max_loaded=1)
    await asyncio.gather(*(machine.load("got_ocr") for _ in range(2)))
    assert machine.events == ["+got_ocr"]


async def test_the_next_waits_for_a_load_whose_caller_is_gone():
    machine = Machine(6)
    machine.may_load.clear()
    first, second = [
        asyncio.create_task(machine.load(model)) for model in ("got_ocr", "qwen3_vl_2b")
    ]
    await asyncio.sleep(0.01)
    first.cancel()
    await asyncio.sleep(0.01)
    assert machine.events == []
    machine.may_load.set()
    await second
    assert machine.events == ["+got_ocr", "-got_ocr", "+qwen3_vl_2b"]


@pytest.mark.parametrize("model", ["got_ocr", "qwen3_vl_2b"])
async def test_who_cannot_wait_so_long_is_told_which_model_is_being_loaded(model):
    machine = Machine(80)
    machine.may_load.clear()
    load = asyncio.create_task(machine.load("got_ocr"))
    await asyncio.sleep(0.01)
    said = f"'{model}' cannot answer yet: model 'got_ocr' is still being loaded"
    with pytest.raises(Refusal, match=said) as refused:
        await machine.load(model, seconds=0.01)
    assert refused.value.code is ErrorCode.LOADING
    assert refused.value.failure.retry_after
    machine.may_load.set()
    await load


async def test_once_it_is_closed_nothing_is_loaded_any_more():
    machine = Machine(80)
    machine.may_load.clear()
    loads = [asyncio.create_task(machine.load(model)) for model in ("got_ocr", "qwen3_vl_2b")]
    await asyncio.sleep(0.01)
    machine.loader.close()
    machine.may_load.set()
    await asyncio.wait(loads, timeout=1)
    assert [load.cancelled() for load in loads] == [True, True]
    assert machine.events == []
