"""Loads a model on first use, serves requests to it, and unloads it.

torch is imported when the model is loaded, not before.
"""

import asyncio
import logging
import math
import os
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, asynccontextmanager, suppress
from typing import TYPE_CHECKING, TypeVar

from common import devices
from common.catalog import Entry
from common.deadline import Deadline
from common.failures import ErrorCode, Failure, Refusal
from common.messages import Answer, Request, Status, Stream
from common.units import GIB
from runners import malloc
from runners.checkpoints import weights
from runners.checkpoints.torch_environment import set_torch_defaults
from settings import Settings

if TYPE_CHECKING:
    from runners.vlm.loaded_model import LoadedModel

logger = logging.getLogger(__name__)

Result = TypeVar("Result")

_MIN_ENCODERS, _MAX_ENCODERS = 2, 8
"""Fewest and most threads that decode and encode images beside the decode loop. A GPU reads pages
faster than two threads encode them."""
_RELEASE_TIMEOUT = 5.0
"""Seconds that refused requests get to let go of the model before its memory is freed."""
_NEWEST_WEIGHT = 0.2
"""Weight of the newest request in the moving average of request times."""


class VlmEngine:
    """Serves requests to one vision-language model. All calls come from one event loop."""

    def __init__(self, entry: Entry, settings: Settings) -> None:
        self._entry = entry
        self._settings = settings
        self._encoders = ThreadPoolExecutor(_encoder_threads(), "encoder", _begin_encoder)

        # The model, and what is being done with it
        self._model: LoadedModel | None = None
        self._places: tuple[str, ...] = ()
        """Where the model is loaded, as in `Status.places`."""
        self._loading: asyncio.Task[None] | None = None
        self._unloading: asyncio.Task[None] | None = None
        self._failure: Failure | None = None
        """Why the last load failed."""

        # Its requests
        self._requests = 0
        """Requests taken and not yet answered."""
        self._answers = 0
        """How many answers they ask for; each becomes a row."""
        self._mean_request_seconds = 1.0
        """Moving average of the time of a request."""
        self._users = 0
        """Requests that hold the loaded model."""
        self._unused = asyncio.Event()
        """Set while no request holds the model."""
        self._unused.set()
        self._last_used = time.monotonic()
        self._idle_timer: asyncio.TimerHandle | None = None

    async def answer(self, request: Request, deadline: Deadline) -> Answer:
        """Answer a request. Raises `Refusal`. Cancelling it frees the row at the next step."""
        async with self._serve(request, deadline) as model:
            return await model.answer(request, deadline)

    async def stream(self, request: Request, deadline: Deadline) -> Stream:
        """Make pieces of whole characters, then the answer. Raises `Refusal`.

        Closing the stream frees the row at the next step.
        """
        async with (
            self._serve(request, deadline) as model,
            aclosing(model.stream(request, deadline)) as pieces,
        ):
            async for piece in pieces:
                yield piece

    async def load(self) -> None:
        """Load the model if need be. Raises `Refusal` if the weights or the device are not there.

        Concurrent calls share one load, which goes on if its callers are cancelled. After a load
        that failed, the next call tries again.
        """
        await self._loaded_model()

    async def unload(self) -> bool:
        """Unload the model. Returns False if it is not loaded.

        Waits up to `unload_timeout` for the requests that hold the model, then refuses them. A
        request that arrives meanwhile waits, and loads the model again.
        """
        if self._loading is not None:
            with suppress(Exception):
                await asyncio.shield(self._loading)
        if self._unloading is None:
            if self._model is None:
                return False
            self._unloading = asyncio.create_task(self._unload(self._model))
        await asyncio.shield(self._unloading)
        return True

    async def status(self) -> Status:
        """The state of the model; if it is not loaded, also what loading it would take."""
        model = self._model
        if model is None:
            if self._loading is not None:
                return Status(state="loading", queued=self._answers, places=self._places)
            return await asyncio.to_thread(self._unloaded_status)
        return Status(
            state="loaded",
            device=model.device,
            dtype=model.dtype,
            memory_bytes=model.memory_bytes,
            rows=model.running_rows,
            queued=max(self._answers - model.running_rows, 0),
            idle_seconds=0 if self._users else time.monotonic() - self._last_used,
            places=self._places,
        )

    def _unloaded_status(self) -> Status:
        needed = weights.memory_bytes(self._entry, self._settings)
        places, memory = self._places_and_memory()
        failure = self._failure
        if reason := self._why_unavailable(needed, memory.total):
            failure = Failure(code=ErrorCode.UNAVAILABLE, detail=reason)
        hopeless = failure is not None and failure.code is ErrorCode.UNAVAILABLE
        # `unloaded` lets the gateway make room; `unavailable` says that this would not help.
        return Status(
            state="unavailable" if hopeless else "unloaded",
            reason=failure.detail if failure else None,
            places=places,
            needs_bytes=needed,
            free_bytes=memory.free,
        )

    def _places_and_memory(self) -> tuple[tuple[str, ...], devices.Memory]:
        return devices.placement(self._settings.gpus_of(self._entry.id))

    def _why_unavailable(self, needed: int, total: int) -> str | None:
        """Why the model could not be loaded even on an otherwise empty device; None if it could."""
        reason = weights.why_unavailable(self._entry, self._settings)
        if reason is None and needed > total:
            return (
                f"{self._entry.name} needs {needed / GIB:.1f} GiB of memory; "
                f"its device has {total / GIB:.1f} GiB."
            )
        return reason

    async def close(self) -> None:
        """Refuse the requests that are left, and stop."""
        self._stop_idle_timer()
        if self._loading is not None:
            self._loading.cancel()
        if self._model is not None:
            await asyncio.to_thread(self._model.close)
            self._model = None
        self._encoders.shutdown(wait=False, cancel_futures=True)

    @asynccontextmanager
    async def _serve(self, request: Request, deadline: Deadline) -> AsyncIterator["LoadedModel"]:
        """Lend the loaded model to one request. Raises `Refusal`."""
        waiting = self._answers - (self._model.running_rows if self._model else 0)
        if waiting >= self._settings.queue_size:
            raise Refusal(
                ErrorCode.QUEUE_FULL,
                f"{self._entry.name} has {waiting} requests waiting, its limit; try again later.",
                retry_after=math.ceil(self._mean_request_seconds),
            )
        started = time.monotonic()
        self._requests += 1
        self._answers += request.n
        try:
            async with deadline.bound(f"{self._entry.name} was still loading; try again later."):
                model = await self._loaded_model()
            model.metrics.requests.set(self._requests)
            self._stop_idle_timer()
            self._users += 1
            self._unused.clear()
            try:
                yield model
            finally:
                self._users -= 1
                if not self._users:
                    self._mark_unused()
        finally:
            self._requests -= 1
            self._answers -= request.n
            if self._model is not None:
                self._model.metrics.requests.set(self._requests)
            seconds = time.monotonic() - started
            self._mean_request_seconds += _NEWEST_WEIGHT * (seconds - self._mean_request_seconds)

    async def _loaded_model(self) -> "LoadedModel":
        while True:
            if self._unloading is not None:
                await asyncio.shield(self._unloading)
            elif self._model is not None:
                if self._model.is_alive:
                    return self._model
                self._unloading = asyncio.create_task(self._unload(self._model))
            else:
                if self._loading is None:
                    self._loading = asyncio.create_task(self._load())
                await asyncio.shield(self._loading)

    async def _load(self) -> None:
        try:
            self._model = await _in_own_thread(self._load_model)
        except Refusal as refusal:
            self._failure = refusal.failure
            raise
        except Exception:
            self._failure = Failure(
                code=ErrorCode.FAULT,
                detail=f"{self._entry.name} could not be loaded; the log says why.",
            )
            raise
        else:
            self._failure = None
            self._mark_unused()
        finally:
            self._loading = None

    def _load_model(self) -> "LoadedModel":
        self._places, memory = self._places_and_memory()
        needed = weights.memory_bytes(self._entry, self._settings)
        if reason := self._why_unavailable(needed, memory.total):
            raise Refusal(ErrorCode.UNAVAILABLE, reason)  # before torch is imported for nothing
        malloc.keep_freed_memory()
        set_torch_defaults()
        from runners.vlm.loaded_model import LoadedModel

        return LoadedModel(self._entry, self._settings, self._encoders)

    async def _unload(self, model: "LoadedModel") -> None:
        self._stop_idle_timer()
        try:
            await self._wait_until_unused(self._settings.unload_timeout)
            self._model = None
            await asyncio.to_thread(model.close)
            await self._wait_until_unused(_RELEASE_TIMEOUT)
            await asyncio.to_thread(model.release)
        finally:
            self._unloading = None

    async def _wait_until_unused(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._unused.wait()

    def _mark_unused(self) -> None:
        self._last_used = time.monotonic()
        self._unused.set()
        if self._settings.keep_alive is not None:
            self._idle_timer = asyncio.get_running_loop().call_later(
                self._settings.keep_alive, self._unload_idle
            )

    def _unload_idle(self) -> None:
        if self._model is not None and self._unloading is None:
            logger.info("Unloading %s: it has not been used for a while", self._entry.id)
            self._unloading = asyncio.create_task(self._unload(self._model))

    def _stop_idle_timer(self) -> None:
        if self._idle_timer is not None:
            self._idle_timer.cancel()
            self._idle_timer = None


async def _in_own_thread(work: Callable[[], Result]) -> Result:
    """Runs some work in a thread that ends with it, see `runners.torch_threads`."""
    thread = ThreadPoolExecutor(1)
    try:
        return await asyncio.get_running_loop().run_in_executor(thread, work)
    finally:
        thread.shutdown(wait=False)


def _begin_encoder() -> None:
    """An encoder starts with its first image, when the model is loaded and torch imported."""
    from runners import torch_threads

    torch_threads.use_one_core()


def _encoder_threads() -> int:
    """As many threads as there are cores, within bounds."""
    return max(_MIN_ENCODERS, min(os.cpu_count() or 1, _MAX_ENCODERS))
