"""What is seen of a server from outside while it works."""

import re
import time
from collections.abc import Callable
from typing import Any

import httpx
import psutil  # type: ignore[import-untyped]

from tests.support.server import Server

PATIENCE = 30
"""Seconds that a state may take to come about."""


def until(met: Callable[[], Any], seconds: float = PATIENCE) -> None:
    give_up = time.monotonic() + seconds
    while not met():
        assert time.monotonic() < give_up, "it did not come about"
        time.sleep(0.05)


def busy(server: Server, model: str) -> int:
    """Requests that the model works on or that wait for it, maybe as they were a moment ago."""
    listed = server.client.get("/models").json()["available"]
    (entry,) = (entry for entry in listed if entry["id"] == model)
    return int(entry["rows"] + entry["queued"])


def processor_seconds(processes: list[psutil.Process]) -> float:
    return sum(sum(process.cpu_times()[:2]) for process in processes)


def at_rest(processes: list[psutil.Process]) -> bool:
    before = processor_seconds(processes)
    time.sleep(1)
    return processor_seconds(processes) - before < 0.2


def sentence(response: httpx.Response) -> str:
    """The detail, which tells nothing of the machine. Beside it there is the code only."""
    body = response.json()
    assert set(body) == {"detail", "code"}
    assert not re.search(r"Traceback|\.py\b|/(tmp|usr|home|root|work)/", body["detail"])
    return str(body["detail"])
