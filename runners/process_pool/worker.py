"""Runs one worker process, as its parent: `program.py` runs in it."""

import asyncio
import os
import pickle
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Generic, TypeVar

import psutil  # type: ignore[import-untyped]

from common.failures import Refusal
from runners.process_pool.protocol import (
    LENGTH,
    Check,
    Done,
    Failed,
    Job,
    Outcome,
    Refused,
    Stop,
    frame,
)

Value = TypeVar("Value")
Result = TypeVar("Result")
Load = Callable[[], Callable[[Value, Check], Result]]
"""Called once in each process. What it returns is called there with every job."""

START_SECONDS = 60.0
"""Time limit of a start, the load included."""
STOP_SECONDS = 3.0
"""Time in which a job that is to stop has to get to its next `Check`."""
_EXIT_SECONDS = 1.0
"""Time in which a process whose pipe has closed is gone."""
_PROJECT = str(Path(__file__).parents[2])
_PROGRAM = "runners.process_pool.program"


class WorkerDied(Exception):
    """Raised if the process ended, or was killed, before it had answered."""


class JobStopped(Exception):
    """Raised if the job was given up, as it was asked to."""


class JobFailed(Exception):
    """Raised if the job, or the load, failed. The text is the traceback in the worker."""


class Worker(Generic[Value, Result]):
    """A process that does one job at a time."""

    def __init__(self, load: Load[Value, Result]) -> None:
        self._load = load
        self._process: asyncio.subprocess.Process | None = None
        self.is_ready = False
        """Whether it has loaded."""
        self._is_busy = False
        """Whether it has not answered yet what it was sent last."""
        self.retired = False
        """Whether it is to end after its job."""
        self.ended = asyncio.Event()

    @property
    def is_alive(self) -> bool:
        return self._process is not None and self._process.returncode is None

    @property
    def is_free(self) -> bool:
        """Whether it can be given a job."""
        return self.is_alive and not self._is_busy and not self.retired

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    @property
    def memory_bytes(self) -> int:
        """Resident memory of the process; 0 where it has ended."""
        if self.is_alive:
            with suppress(psutil.NoSuchProcess):
                return int(psutil.Process(self.pid).memory_info().rss)
        return 0

    async def start(self) -> None:
        """Start the process and load. Raises `WorkerDied`, `JobFailed`, or the load's `Refusal`."""
        # The program has to find the project's modules wherever this process works.
        path = os.pathsep.join(filter(None, [_PROJECT, os.environ.get("PYTHONPATH")]))
        try:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-P",  # modules of the working directory are not the project's
                "-m",
                _PROGRAM,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                env=os.environ | {"PYTHONPATH": path},
                start_new_session=True,  # what is sent to the server's group does not reach it
            )
        except OSError as error:
            raise WorkerDied from error
        try:
            async with asyncio.timeout(START_SECONDS):
                await self._ask(self._load)
        except TimeoutError as error:
            raise WorkerDied from error
        self.is_ready = True

    async def do(self, value: Value, stop: asyncio.Event) -> Result:
        """The job's result. Do not cancel it: set `stop`, and it ends within `STOP_SECONDS`.

        Raises `WorkerDied`, `JobFailed`, `JobStopped`, or the `Refusal` that the job raised.
        """
        if stop.is_set():
            raise JobStopped
        stopping = asyncio.create_task(self._stop_when(stop))
        try:
            return await self._ask(Job(value))
        finally:
            stopping.cancel()

    def kill(self) -> None:
        """Kill the process if there is one. It holds nothing that has to be kept."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                self._process.kill()

    async def end(self) -> None:
        """Kill the process and close its pipes. Not while it does a job."""
        self.kill()
        if self._process is not None:
            await self._process.communicate()
        self.ended.set()

    async def _stop_when(self, stop: asyncio.Event) -> None:
        await stop.wait()
        with suppress(OSError, RuntimeError):
            self._send(Stop())
        await asyncio.sleep(STOP_SECONDS)
        self.kill()

    async def _ask(self, message: object) -> Any:
        outcome = await self._outcome_of(message)
        if isinstance(outcome, Done):
            return outcome.value
        if isinstance(outcome, Refused):
            raise Refusal.of(outcome.failure)
        if isinstance(outcome, Failed):
            raise JobFailed(outcome.traceback)
        raise JobStopped

    async def _outcome_of(self, message: object) -> Outcome:
        assert self._process is not None
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._is_busy = True
        try:
            self._send(message)
            await self._process.stdin.drain()
            (size,) = LENGTH.unpack(await self._process.stdout.readexactly(LENGTH.size))
            outcome: Outcome = pickle.loads(await self._process.stdout.readexactly(size))
        except (OSError, EOFError, RuntimeError) as error:
            # EOFError: the pipe closed. RuntimeError: uvloop's, for a pipe that is closed.
            raise WorkerDied(f"exit code {await self._exit_code()}") from error
        self._is_busy = False
        return outcome

    async def _exit_code(self) -> int:
        """The exit code of a process whose pipe has closed. If it does not end, it is killed.

        It is not killed at once: `Popen.kill` of a process that has just ended takes its exit code
        from asyncio, which then reports 255.
        """
        assert self._process is not None
        with suppress(TimeoutError):
            async with asyncio.timeout(_EXIT_SECONDS):
                return await self._process.wait()
        self.kill()
        return await self._process.wait()

    def _send(self, message: object) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.write(frame(message))
