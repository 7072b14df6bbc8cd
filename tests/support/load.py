"""Clients that ask without a pause, until the service lets no one in any more."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import httpx

from tests.support.pages import ENGLISH, encode, render

CLIENTS = 8
PATIENCE = 60
"""Seconds in which all have to be answered."""


@dataclass
class Stopped:
    early: int
    """Answers before the stop."""
    late: int
    exit_code: int


def stop_under_load(url: str, stop: Callable[[], int]) -> Stopped:
    """Calls `stop`, which returns the exit code, while every client waits for an answer.

    Raises where a request that was let in gets no answer, or another than the page's text. A
    connection that is refused was not let in.
    """
    page = encode(render(ENGLISH))
    answered: list[float] = []

    def ask() -> None:
        while True:
            try:
                answer = httpx.post(f"{url}/ocr", files={"file": page}, timeout=PATIENCE)
            except httpx.ConnectError:
                return
            assert answer.status_code == 200, answer.text
            assert answer.json()["text"] == "\n".join(ENGLISH)
            answered.append(time.monotonic())

    with ThreadPoolExecutor(CLIENTS) as pool:
        clients = [pool.submit(ask) for _ in range(CLIENTS)]
        while len(answered) < 2 * CLIENTS:
            time.sleep(0.1)
            for client in clients:
                assert not client.done() or client.result(), "refused before the stop"
        signalled = time.monotonic()
        exit_code = stop()
        for client in clients:
            client.result(PATIENCE)
    late = sum(moment > signalled for moment in answered)
    return Stopped(len(answered) - late, late, exit_code)
