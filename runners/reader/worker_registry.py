"""What the processes that serve one model know of each other, through a folder they share.

A process that has the model loaded holds an exclusive `flock` on a file of its own, which the
kernel releases if it dies. A word that is new in the file `generation` asks all to unload.
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
class Member:
    """A process that has the model loaded, or is loading it."""

    loading: bool
    memory_bytes: int
    rows: int
    queued: int
    last_end: float
    """`time.monotonic()`, which all processes of a machine share, when its last request ended."""


class Siblings:
    """One process' membership. Any thread may call."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._generation = folder / "generation"
        self._name = f"{os.getpid()}-{secrets.token_hex(4)}"
        self._lock: IO[str] | None = None
        self._joined_in = ""
        self._guard = threading.Lock()

    def join(self, member: Member) -> None:
        """Be counted among those that have the model loaded, until `leave` or death."""
        with self._guard:
            self._joined_in = self._current()
            self._publish(member)
            self._lock = (self._folder / f"{self._name}.lock").open("w")
            fcntl.flock(self._lock, fcntl.LOCK_EX)

    def report(self, member: Member) -> None:
        """Replace what the others see of this process; nothing where it is no member."""
        with self._guard:
            if self._lock:
                self._publish(member)

    def leave(self) -> None:
        with self._guard:
            if self._lock:
                (self._folder / f"{self._name}.lock").unlink(missing_ok=True)
                (self._folder / f"{self._name}.json").unlink(missing_ok=True)
                self._lock.close()
                self._lock = None

    def dismiss(self) -> None:
        """Ask every member, this process included, to unload."""
        self._replace(self._generation, secrets.token_hex(8))

    @property
    def dismissed(self) -> bool:
        """Whether this process is a member that was asked to unload."""
        return self._lock is not None and self._joined_in != self._current()

    def members(self) -> list[Member]:
        """Of every living member, this process included."""
        return [member for _, member in self._living()]

    def stragglers(self) -> int:
        """Living members that joined before the last `dismiss`."""
        current = self._current()
        return sum(joined_in != current for joined_in, _ in self._living())

    def _living(self) -> list[tuple[str, Member]]:
        members = []
        for path in self._folder.glob("*.lock"):
            try:
                with path.open() as lock:
                    if _is_held(lock):
                        said = json.loads(path.with_suffix(".json").read_text())
                        members.append((said.pop("joined_in"), Member(**said)))
            except FileNotFoundError:  # it left meanwhile
                continue
        return members

    def _current(self) -> str:
        try:
            return self._generation.read_text()
        except FileNotFoundError:
            return ""

    def _publish(self, member: Member) -> None:
        said = asdict(member) | {"joined_in": self._joined_in}
        self._replace(self._folder / f"{self._name}.json", json.dumps(said))

    def _replace(self, path: Path, text: str) -> None:
        """Readers see the old text or the new one, never half of it."""
        draft = path.with_name(f"{secrets.token_hex(8)}.draft")
        draft.write_text(text)
        draft.replace(path)


def _is_held(lock: IO[str]) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    return False
