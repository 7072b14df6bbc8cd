"""Lets the worker processes that have one model loaded see each other through a shared folder.

A worker that has the model loaded holds an exclusive `flock` on a file of its own, which the
kernel releases if it dies. A new random text in the file `generation` asks all of them to unload.
The folder may be removed at any time: it is made anew at the next write.
"""

import fcntl
import json
import os
import secrets
import threading
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO


@dataclass(frozen=True)
class Worker:
    """A process that has the model loaded, or is loading it."""

    loading: bool
    memory_bytes: int
    rows: int
    queued: int
    last_end: float
    """When its last request ended, in seconds of `time.monotonic()`, which all processes of a
    machine share."""


class WorkerRegistry:
    """One process's entry among the workers, and its view of the others. Any thread may call."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._generation = folder / "generation"
        name = f"{os.getpid()}-{secrets.token_hex(4)}"
        self._lock_file = folder / f"{name}.lock"
        self._state_file = folder / f"{name}.json"
        self._lock: IO[str] | None = None
        self._joined_in = ""
        self._guard = threading.Lock()

    def join(self, worker: Worker) -> None:
        """Add this process to the workers, until it leaves or dies."""
        with self._guard:
            self._joined_in = self._current()
            self._enter(worker)

    def report(self, worker: Worker) -> None:
        """Replace what the others see of this process. Does nothing if it has not joined."""
        with self._guard:
            if self._lock:
                self._enter(worker)

    def leave(self) -> None:
        """Take this process out. Does nothing if it has not joined."""
        with self._guard:
            if self._lock:
                self._lock_file.unlink(missing_ok=True)
                self._state_file.unlink(missing_ok=True)
                self._lock.close()
                self._lock = None

    def ask_to_unload(self) -> None:
        """Ask every worker, this process included, to unload."""
        self._replace(self._generation, secrets.token_hex(8))

    @property
    def asked_to_unload(self) -> bool:
        """Whether this process has joined and was asked to unload since."""
        return self._lock is not None and self._joined_in != self._current()

    def workers(self) -> list[Worker]:
        """Every living worker, this process included."""
        return [worker for _, worker in self._living()]

    def still_loaded(self) -> int:
        """Number of living workers that joined before the last `ask_to_unload`."""
        current = self._current()
        return sum(joined_in != current for joined_in, _ in self._living())

    def _living(self) -> list[tuple[str, Worker]]:
        """Each living worker, with the generation that it joined in."""
        living = []
        for path in self._folder.glob("*.lock"):
            try:
                with path.open() as lock:
                    if _is_held(lock):
                        state = json.loads(path.with_suffix(".json").read_text())
                        living.append((state.pop("joined_in"), Worker(**state)))
            except FileNotFoundError:  # it left meanwhile
                continue
        return living

    def _current(self) -> str:
        try:
            return self._generation.read_text()
        except FileNotFoundError:
            return ""

    def _enter(self, worker: Worker) -> None:
        state = asdict(worker) | {"joined_in": self._joined_in}
        self._replace(self._state_file, json.dumps(state))
        if self._lock and self._lock_file.exists():
            return
        if self._lock:  # of a file that was removed with its folder
            self._lock.close()
        self._lock = self._lock_file.open("w")
        fcntl.flock(self._lock, fcntl.LOCK_EX)

    def _replace(self, path: Path, text: str) -> None:
        """Write a file such that readers see the old text or the new one, never half of it."""
        self._folder.mkdir(parents=True, exist_ok=True)
        draft = path.with_name(f"{secrets.token_hex(8)}.draft")
        draft.write_text(text)
        draft.replace(path)


def _is_held(lock: IO[str]) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    return False
