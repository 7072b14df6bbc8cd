"""A runner that dies in the image of the Bento, where BentoML itself would end the container."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event
from typing import Any

import httpx
import pytest

from tests.support.pages import ENGLISH, encode, render
from tests.support.server import SAYS, Server
from tests.support.watching import sentence, until

DIES, LIVES = "qwen3_vl_2b", "qwen3_vl_8b"
PAGE = encode(render(ENGLISH[:1], font_px=20))
AT_ONCE = 5.0
"""Seconds, on a busy machine; who waits for the runner's return takes longer."""


@pytest.fixture(scope="module")
def container(weights: Path) -> Iterator[Server]:
    with Server(containerized=True, models=f"{DIES},{LIVES}", weights=weights) as server:
        yield server


def test_it_comes_back_and_meanwhile_only_its_own_model_is_unavailable(container: Server) -> None:
    def read(model: str) -> httpx.Response:
        return container.client.post("/ocr", files={"file": PAGE}, data={"model": model})

    def load(model: str) -> list[httpx.Response]:
        answers = []
        while not over.is_set():
            answers.append(read(model))
            time.sleep(0.05)
        return answers

    def health() -> dict[str, Any]:
        return container.client.get("/health").json()

    over = Event()
    assert (read(DIES).status_code, read(LIVES).status_code) == (200, 200)
    (killed,) = container.runners(DIES)
    with ThreadPoolExecutor() as pool:
        dying, living = (pool.submit(load, model) for model in (DIES, LIVES))
        try:
            time.sleep(1)
            killed.kill()
            until(lambda: health()["unreachable_models"] == [DIES], 2)
            assert health()["status"] == "degraded"
            assert read(DIES).status_code == 503
            assert container.client.get("/readyz").status_code == 200
            until(lambda: read(DIES).status_code == 200, 60)
        finally:
            over.set()

    assert {answer.json()["text"] for answer in living.result()} == {SAYS[LIVES]}
    assert {answer.status_code for answer in dying.result()} == {200, 503}
    for answer in dying.result():
        if answer.status_code == 503:
            assert int(answer.headers["retry-after"]) > 0
            assert DIES in sentence(answer)
            assert answer.elapsed.total_seconds() < AT_ONCE
    assert health()["status"] == "healthy"
    assert container.process.poll() is None
    (again,) = container.runners(DIES)
    assert again.pid != killed.pid


def test_a_runner_that_was_told_to_end_comes_back_too(container: Server) -> None:
    def read() -> int:
        return container.client.post(
            "/ocr", files={"file": PAGE}, data={"model": LIVES}
        ).status_code

    until(lambda: read() == 200, 60)
    (ended,) = container.runners(LIVES)
    ended.terminate()
    until(lambda: read() == 503, 20)
    until(lambda: read() == 200, 60)
    (again,) = container.runners(LIVES)
    assert again.pid != ended.pid
