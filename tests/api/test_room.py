import asyncio

import pytest

from api.room import Room
from runners.messages import Refusal, Status, Why

GIB = 2**30
HERE = ("host/gpu0",)


class Machine:
    """Models of 4 GiB each on one device."""

    def __init__(self, total_gib: float, max_loaded: int | None = None) -> None:
        self.total = int(total_gib * GIB)
        self.loaded: dict[str, Status] = {}
        self.events: list[str] = []
        self.room = Room(self.statuses, self.load, self.unload, max_loaded)

    def hold(self, model: str, idle: float = 1, rows: int = 0, places=HERE) -> None:
        self.loaded[model] = Status(state="loaded", idle_seconds=idle, rows=rows, places=places)

    async def statuses(self) -> dict[str, Status]:
        here = [status for status in self.loaded.values() if status.places == HERE]
        free = self.total - 4 * GIB * len(here)
        unloaded = Status(state="unloaded", places=HERE, needs_bytes=4 * GIB, free_bytes=free)
        models = ("got_ocr", "qwen3_vl_2b", "qwen3_vl_4b", "tesseract")
        return {model: self.loaded.get(model, unloaded) for model in models}

    async def load(self, model: str) -> None:
        await asyncio.sleep(0)
        self.events.append(f"+{model}")
        self.hold(model, idle=0)

    async def unload(self, model: str) -> None:
        self.events.append(f"-{model}")
        del self.loaded[model]


async def test_a_model_that_fits_is_loaded_beside_the_others():
    machine = Machine(8)
    machine.hold("got_ocr")
    await machine.room.load("qwen3_vl_2b")
    assert machine.events == ["+qwen3_vl_2b"]


async def test_the_least_recently_used_idle_model_makes_room():
    machine = Machine(8)
    machine.hold("got_ocr", idle=5)
    machine.hold("qwen3_vl_2b", idle=50)
    await machine.room.load("qwen3_vl_4b")
    assert machine.events == ["-qwen3_vl_2b", "+qwen3_vl_4b"]


async def test_a_busy_model_is_never_unloaded_and_the_newcomer_is_told_to_come_again():
    machine = Machine(4)
    machine.hold("got_ocr", rows=1)
    with pytest.raises(Refusal, match="no room for model 'qwen3_vl_2b' while got_ocr") as refused:
        await machine.room.load("qwen3_vl_2b")
    assert refused.value.failure.why is Why.UNAVAILABLE
    assert refused.value.failure.retry_after
    assert machine.events == []


async def test_the_limit_on_loaded_models_holds_where_memory_would_do():
    machine = Machine(80, max_loaded=1)
    machine.hold("got_ocr")
    await machine.room.load("qwen3_vl_2b")
    assert machine.events == ["-got_ocr", "+qwen3_vl_2b"]


async def test_the_embedded_reader_counts_for_nothing():
    machine = Machine(80, max_loaded=1)
    machine.hold("tesseract", places=("host/cpu",))
    await machine.room.load("qwen3_vl_2b")
    assert machine.events == ["+qwen3_vl_2b"]


async def test_a_model_on_another_device_would_free_nothing_and_stays():
    machine = Machine(2)
    machine.hold("got_ocr", places=("host/gpu1",))
    with pytest.raises(Refusal, match=r"needs 4\.0 GiB of memory; 2\.0 GiB are free"):
        await machine.room.load("qwen3_vl_2b")
    assert machine.events == []


async def test_newcomers_at_once_are_let_in_one_after_the_other():
    machine = Machine(8)
    machine.hold("got_ocr", idle=9)
    await asyncio.gather(*map(machine.room.load, ("qwen3_vl_2b", "qwen3_vl_4b")))
    assert machine.events == ["+qwen3_vl_2b", "-got_ocr", "+qwen3_vl_4b"]
