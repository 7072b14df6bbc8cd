import pytest

from common.failures import ErrorCode, Refusal
from tests.support.fakes.machine import REMOTE_HOST, Machine


async def test_a_model_that_fits_is_loaded_beside_the_others():
    machine = Machine(8)
    machine.hold("got_ocr")
    await machine.load("qwen3_vl_2b")
    assert machine.events == ["+qwen3_vl_2b"]


async def test_the_least_recently_used_idle_model_makes_room():
    machine = Machine(8)
    machine.hold("got_ocr", idle=5)
    machine.hold("qwen3_vl_2b", idle=50)
    await machine.load("qwen3_vl_4b")
    assert machine.events == ["-qwen3_vl_2b", "+qwen3_vl_4b"]


async def test_a_busy_model_is_never_unloaded_and_the_newcomer_is_told_to_come_again():
    machine = Machine(4)
    machine.hold("got_ocr", rows=1)
    with pytest.raises(
        Refusal, match="no room for model 'qwen3_vl_2b' while got_ocr is busy"
    ) as refused:
        await machine.load("qwen3_vl_2b")
    assert refused.value.code is ErrorCode.UNAVAILABLE
    assert refused.value.failure.retry_after
    assert machine.events == []


async def test_a_model_that_a_request_is_on_its_way_to_is_busy():
    machine = Machine(4)
    machine.hold("got_ocr")
    machine.slots["got_ocr", None].requests = 1
    with pytest.raises(Refusal, match="while got_ocr is busy"):
        await machine.load("qwen3_vl_2b")
    assert machine.events == []


async def test_a_model_whose_last_load_failed_is_made_room_for_again():
    machine = Machine(4)
    machine.reason = "The device has too little free memory."
    machine.hold("got_ocr")
    await machine.load("qwen3_vl_2b")
    assert machine.events == ["-got_ocr", "+qwen3_vl_2b"]


async def test_the_limit_on_loaded_models_holds_where_memory_would_do():
    machine = Machine(80, max_loaded=1)
    machine.hold("got_ocr")
    await machine.load("qwen3_vl_2b")
    assert machine.events == ["-got_ocr", "+qwen3_vl_2b"]


async def test_the_embedded_reader_counts_for_nothing():
    machine = Machine(80, max_loaded=1)
    machine.hold("reader", places=("host/cpu",))
    await machine.load("qwen3_vl_2b")
    assert machine.events == ["+qwen3_vl_2b"]


async def test_a_model_on_another_device_would_free_nothing_and_stays():
    machine = Machine(2)
    machine.hold("got_ocr", places=("host/gpu1",))
    with pytest.raises(Refusal, match=r"needs 4\.0 GiB of memory; 2\.0 GiB are free"):
        await machine.load("qwen3_vl_2b")
    assert machine.events == []


async def test_a_host_makes_room_for_itself_alone():
    machine = Machine(4, max_loaded=1)
    machine.hold("got_ocr")
    machine.hold("got_ocr", host=REMOTE_HOST)
    await machine.load("qwen3_vl_2b", REMOTE_HOST)
    assert machine.events == ["-got_ocr", "+qwen3_vl_2b"]
    assert [slot.host for slot in machine.loaded] == [None, REMOTE_HOST]


async def test_a_runner_that_is_not_reachable_is_not_unloaded():
    machine = Machine(80, max_loaded=1)
    machine.hold("got_ocr")
    machine.slots["got_ocr", None].reachable = False
    await machine.load("qwen3_vl_2b")
    assert machine.events == ["+qwen3_vl_2b"]


async def test_a_model_that_a_server_of_its_own_holds_neither_counts_nor_is_unloaded():
    machine = Machine(80, max_loaded=1)
    machine.hold("qwen3_vl_4b", idle=100, places=(), is_upstream=True)
    await machine.load("got_ocr")
    await machine.load("qwen3_vl_2b")
    assert machine.events == ["+got_ocr", "-got_ocr", "+qwen3_vl_2b"]
