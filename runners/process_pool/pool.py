"""Does jobs in several worker processes: each does one job at a time, the others wait in a queue.

It is not concurrent.futures' pool, whose jobs cannot be stopped once they run, whose idle processes
outlive a parent that is killed, and whose processes import the parent's main module, BentoML.
"""

import asyncio
import logging
from contextlib import suppress
from typing import Generic, TypeVar

from runners.process_pool.worker import JobStopped, Load, Worker, WorkerDied

logger = logging.getLogger(__name__)

Value = TypeVar("Value")
Result = TypeVar("Result")

_CLOSE_SECONDS = 5.0
"""Time in which killed processes are gone."""


class ProcessPool(Generic[Value, Result]):
    """Starts its processes when jobs need them. All calls come from one event loop."""

    def __init__(self, load: Load[Value, Result], size: int) -> None:
        """load: a function of a module, or a `functools.partial` of one. size: of processes."""
        self._load = load
        self._size = size
        self._turns = asyncio.Semaphore(size)
        """Held by each job until its process is free again, and by each start. First come, first
        served."""
        self._workers: set[Worker[Value, Result]] = set()
        self._free: list[Worker[Value, Result]] = []
        self._closed = False

    @property
    def workers(self) -> list[Worker[Value, Result]]:
        """Every process that has started, or is starting."""
        return list(self._workers)

    async def run(self, job: Value) -> Result:
        """The result of the job, from a process that is free, or else from the next one.

        If its process dies, the job gets one other try. If the call is cancelled, the job stops at
        its next check, or its process is killed after `STOP_SECONDS`.

        Raises `WorkerDied` if both tries fail, and what `Worker.start` and `Worker.do` raise.
        """
        await self._turns.acquire()
        stop = asyncio.Event()
        # It goes on after a cancellation, and gives the turn back when the process is free again.
        work = asyncio.create_task(self._work(job, stop))
        work.add_done_callback(_note_failure)
        try:
            return await asyncio.shield(work)
        finally:
            stop.set()

    async def start_all(self) -> None:
        """Start the processes that are not there yet. Raises as `run` does."""
        missing = self._size - len(self._workers)
        await asyncio.gather(*(self._start_another() for _ in range(missing)))

    async def retire(self, seconds: float) -> bool:
        """End each process after its job, waiting at most so long. False if there was none.

        Jobs that wait get new processes.
        """
        workers = self.workers
        for worker in workers:
            worker.retired = True
        free, self._free = self._free, []
        await asyncio.gather(*map(self._end, free))
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await asyncio.gather(*(worker.ended.wait() for worker in workers))
        return bool(workers)

    async def close(self) -> None:
        """Kill all processes. Jobs that are left raise `WorkerDied`."""
        self._closed = True
        for worker in self.workers:
            worker.kill()
        await self.retire(_CLOSE_SECONDS)

    async def _work(self, job: Value, stop: asyncio.Event) -> Result:
        try:
            try:
                return await self._try(job, stop)
            except WorkerDied as death:
                if stop.is_set():
                    raise JobStopped from None
                if self._closed:
                    raise
                logger.warning("A job lost its process (%s): it gets one other try.", death)
                return await self._try(job, stop)
        finally:
            self._turns.release()

    async def _try(self, job: Value, stop: asyncio.Event) -> Result:
        worker = await self._take()
        try:
            return await worker.do(job, stop)
        finally:
            await self._give_back(worker)

    async def _take(self) -> Worker[Value, Result]:
        """A process that is free, or a new one."""
        while self._free:
            worker = self._free.pop()
            if worker.is_free:
                return worker
            await self._end(worker)
        return await self._start()

    async def _give_back(self, worker: Worker[Value, Result]) -> None:
        if worker.is_free:
            self._free.append(worker)
        else:
            await self._end(worker)

    async def _start_another(self) -> None:
        async with self._turns:
            if len(self._workers) < self._size:
                await self._give_back(await self._start())

    async def _start(self) -> Worker[Value, Result]:
        if self._closed:
            raise WorkerDied("the pool is closed")
        worker = Worker(self._load)
        self._workers.add(worker)
        try:
            await worker.start()
        except BaseException:
            await self._end(worker)
            raise
        return worker

    async def _end(self, worker: Worker[Value, Result]) -> None:
        await worker.end()
        self._workers.discard(worker)


def _note_failure(work: "asyncio.Task[Result]") -> None:
    """Keep asyncio from reporting a failure that nobody waits for any more."""
    if not work.cancelled():
        work.exception()
