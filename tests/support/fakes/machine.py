"""A machine of fake runners, on which models are loaded and unloaded."""

import asyncio

from api.dispatch.loader import Loader
from common.deadline import Deadline
from common.messages import Status
from common.units import GIB

DEVICE = ("host/gpu0",)
REMOTE_HOST = "10.0.0.2"


class Slot:
    """Stands in for a runner, on a machine with several."""

    def __init__(self, machine: "Machine", model: str, host: str | None) -> None:
        self.machine = machine
        self.model = model
        self.host = host
        self.reachable = True
        self.requests = 0

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
        models = ("got_ocr", "qwen3_vl_2b", "qwen3_vl_4b", "reader")
        self.slots = {
            (model, host): Slot(self, model, host)
            for model in models
            for host in (None, REMOTE_HOST)
        }
        self.total = int(total_gib * GIB)
        self.loaded: dict[Slot, Status] = {}
        self.events: list[str] = []
        self.may_load = asyncio.Event()
        self.may_load.set()
        self.reason: str | None = None
        """Why the last load failed."""
        self.loader = Loader(self.slots.values, max_loaded)

    def hold(
        self, model: str, idle: float = 1, rows: int = 0, places=DEVICE, host=None, **status
    ) -> None:
        """status: further fields."""
        self.loaded[self.slots[model, host]] = Status(
            state="loaded", idle_seconds=idle, rows=rows, places=places, **status
        )

    async def load(self, model: str, host: str | None = None, seconds: float | None = None) -> None:
        deadline = None if seconds is None else Deadline(seconds)
        await self.loader.load(self.slots[model, host], deadline)

    def status(self, slot: Slot) -> Status:
        here = [
            status
            for other, status in self.loaded.items()
            if status.places == DEVICE and other.host == slot.host
        ]
        free = self.total - 4 * GIB * len(here)
        unloaded = Status(
            state="unloaded",
            reason=self.reason,
            places=DEVICE,
            needs_bytes=4 * GIB,
            free_bytes=free,
        )
        return self.loaded.get(slot, unloaded)
