import asyncio

import pytest

from api.dispatch.eviction import Room
from common.deadline import Deadline
from common.failures import ErrorCode, Refusal
from common.messages import Status

GIB = 2**30
HERE = ("host/gpu0",)
ELSEWHERE = "10.0.0.2"


class Slot:
    """Stands where a runner does, on a machine of several."""

    def __init__(self, machine: "Machine", model: str, host: str | None) -> None:
        self.machine = machine
        self.model = model
        self.host = host
        self.answers = True
        self.calls = 0

    async def status(self) -> Status:
        return self.machine.status(self)

    async def load(self) -> None:
        await asyncio.sleep(0)
        await self.machine.may_load.wait()
        self.machine.events.append(f"+{self.model}")
        self.machine.hold(self.model, idle=0, host=self.host)

    async def unload(self) -> None:
        self.machine.events.append(f"-{self.model}")
        del self.machine.loaded[self]


class Machine:
    """Models of 4 GiB each on one device of every host."""

    def __init__(self, total_gib: float, max_loaded: int | None = None) -> None:
        models = ("got_ocr", "qwen3_vl_2b", "qwen3_vl_4b", "tesseract")
        self.slots = {
            (model, host): Slot(self, model, host) for model in models for host in (None, ELSEWHERE)
        }
        self.total = int(total_gib * GIB)
        self.loaded: dict[Slot, Status] = {}
        self.events: list[str] = []
        self.may_load = asyncio.Event()
        self.may_load.set()
        self.reason: str | None = None
        """Why the last load failed."""
        self.room = Room(self.slots.values, max_loaded)

    def hold(self, model: str, idle: float = 1, rows: int = 0, places=HERE, host=None) -> None:
        self.loaded[self.slots[model, host]] = Status(
            state="loaded", idle_seconds=idle, rows=rows, places=places
        )

    async def load(self, model: str, host: str | None = None, seconds: float | None = None) -> None:
        deadline = None if seconds is None else Deadline(seconds)
        await self.room.load(self.slots[model, host], deadline)

    def status(self, slot: Slot) -> Status:
        here = [
            status
            for other, status in self.loaded.items()
            if status.places == HERE and other.host == slot.host
        ]
        free = self.total - 4 * GIB * len(here)
        unloaded = Status(
            state="unloaded",
            reason=self.reason,
            places=HERE,
            needs_bytes=4 * GIB,
            free_bytes=free,
        )
        return self.loaded.get(slot, unloaded)


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
    with pytest.raises(Refusal, match="no room for model 'qwen3_vl_2b' while got_ocr") as refused:
        await machine.load("qwen3_vl_2b")
    assert refused.value.code is ErrorCode.UNAVAILABLE
    assert refused.value.failure.retry_after
    assert machine.events == []


async def test_a_model_that_a_request_is_on_its_way_to_is_busy():
    machine = Machine(4)
    machine.hold("got_ocr")
    machine.slots["got_ocr", None].calls = 1
    with pytest.raises(Refusal, match="while got_ocr are busy"):
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
    machine.hold("tesseract", places=("host/cpu",))
    await machine.load("qwen3_vl_2b")
    assert machine.events == ["+qwen3_vl_2b"]


async def test_a_model_on_another_device_would_free_nothing_and_stays():
    machine = Machine(2)
    machine.hold("got_ocr", places=("host/gpu1",))
    with pytest.raises(Refusal, match=r"needs 4\.0 GiB of memory; 2\.0 GiB are free"):
        await machine.load("qwen3_vl_2b")
    assert machine.events == []


async def test_newcomers_at_once_are_let_in_one_after_the_other():
    machine = Machine(8)
    machine.hold("got_ocr", idle=9)
    await asyncio.gather(*map(machine.load, ("qwen3_vl_2b", "qwen3_vl_4b")))
    assert machine.events == ["+qwen3_vl_2b", "-got_ocr", "+qwen3_vl_4b"]


async def test_a_host_makes_room_for_itself_alone():
    machine = Machine(4, max_loaded=1)
    machine.hold("got_ocr")
    machine.hold("got_ocr", host=ELSEWHERE)
    await machine.load("qwen3_vl_2b", ELSEWHERE)
    assert machine.events == ["-got_ocr", "+qwen3_vl_2b"]
    assert [slot.host for slot in machine.loaded] == [None, ELSEWHERE]


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
    machine.room.close()
    machine.may_load.set()
    await asyncio.wait(loads, timeout=1)
    assert [load.cancelled() for load in loads] == [True, True]
    assert machine.events == []


async def test_a_runner_that_cannot_say_how_it_stands_stays_as_it_is():
    machine = Machine(80, max_loaded=1)
    machine.hold("got_ocr")
    machine.slots["got_ocr", None].answers = False
    await machine.load("qwen3_vl_2b")
    assert machine.events == ["+qwen3_vl_2b"]
