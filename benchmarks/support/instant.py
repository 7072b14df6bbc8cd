"""The service with a runner that answers at once, so that only the gateway's cost is left.

`python -m benchmarks.gateway` starts it.
"""

from common.catalog import CATALOG, Entry
from common.deadline import Deadline
from common.messages import Answer, Request, Status, Stream
from runners.service import make_runner
from service import make_service
from settings import Settings, settings


class InstantEngine:
    def __init__(self, entry: Entry, settings: Settings) -> None: ...

    async def answer(self, request: Request, deadline: Deadline) -> Answer:
        return Answer(text="", image_size=(1, 1))

    async def stream(self, request: Request, deadline: Deadline) -> Stream:
        yield await self.answer(request, deadline)

    async def load(self) -> None: ...

    async def unload(self) -> bool:
        return False

    async def status(self) -> Status:
        return Status(state="loaded")

    async def close(self) -> None: ...


MODEL = "reader"
service = make_service({MODEL: make_runner(CATALOG[MODEL], settings(), InstantEngine)})
