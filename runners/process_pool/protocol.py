"""Defines what a worker process and its parent send each other: pickles, each after its length.

The parent first sends a function that loads the worker's function for jobs, then a `Job` at a time.
The worker answers each, the first included, with `Done`, `Refused`, `Failed` or `Stopped`.
"""

import pickle
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, BinaryIO

from common.failures import Failure

LENGTH = struct.Struct("!Q")
"""The head of a frame: the number of bytes that follow."""

Check = Callable[[], None]
"""A job calls it between its steps; it raises once nobody waits for the result any more."""


@dataclass(frozen=True)
class Job:
    """One job, for the function that was loaded."""

    value: Any


@dataclass(frozen=True)
class Stop:
    """Asks to give up the job at its next `Check`. It is not answered, only the job is."""


@dataclass(frozen=True)
class Done:
    """The result of a job; None once the function is loaded."""

    value: Any = None


@dataclass(frozen=True)
class Refused:
    """A job, or the load, raised a `Refusal`."""

    failure: Failure


@dataclass(frozen=True)
class Failed:
    """A job, or the load, raised anything else."""

    traceback: str


@dataclass(frozen=True)
class Stopped:
    """The job was given up."""


Outcome = Done | Refused | Failed | Stopped


def frame(message: object) -> bytes:
    """The message as it is sent."""
    data = pickle.dumps(message)
    return LENGTH.pack(len(data)) + data


def read_frame(file: BinaryIO) -> Any:
    """The next message. Raises EOFError if there is none."""
    head = file.read(LENGTH.size)
    data = file.read(LENGTH.unpack(head)[0]) if len(head) == LENGTH.size else b""
    if not data:
        raise EOFError
    return pickle.loads(data)
