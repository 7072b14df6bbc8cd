"""What a worker process of the tests loads: jobs that end it, hang, or tell of it."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

from common.failures import ErrorCode, Refusal
from runners.process_pool.protocol import Check

Do = Callable[[tuple[str, str], Check], object]


def load(folder: Path) -> Do:
    """Load jobs that leave a file in the folder when they begin. A job is its kind and its name."""
    (folder / f"loaded-{os.getpid()}").touch()

    def do(job: tuple[str, str], check: Check) -> object:
        kind, name = job
        again = (folder / name).exists()
        (folder / name).write_text(str(os.getpid()))
        if kind == "crash" or (kind == "crash once" and not again):
            os.kill(os.getpid(), signal.SIGSEGV)
        if kind == "raise":
            raise ZeroDivisionError("by nought")
        if kind == "refuse":
            raise Refusal(ErrorCode.BAD_IMAGE, "Not an image.", retry_after=3)
        if kind == "print":
            print("a library's message", flush=True)
        while kind == "wait" and not (folder / "go on").exists():
            check()
            time.sleep(0.01)
        while kind == "hang":
            time.sleep(0.01)
        return os.getpid()

    return do


def refuse() -> Do:
    """A load that cannot be done."""
    raise Refusal(ErrorCode.UNAVAILABLE, "The data is missing.")


def fail() -> Do:
    """A load that has a fault."""
    raise ZeroDivisionError("by nought")
