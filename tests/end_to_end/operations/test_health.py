"""The service answers for itself while it works."""

import time
from concurrent.futures import ThreadPoolExecutor, wait

import httpx

from tests.support.pages import ENGLISH, RUSSIAN, encode, render
from tests.support.server import Server

PAGES = [encode(render(lines * 3)) for lines in (ENGLISH, RUSSIAN)] * 8
TOO_LONG = 2.0
"""Seconds: what a blocked event loop takes, not a busy machine."""


def test_health_is_answered_while_pages_are_read(reader: Server) -> None:
    with ThreadPoolExecutor(len(PAGES)) as pool:
        reading = [pool.submit(reader.client.post, "/ocr", files={"file": page}) for page in PAGES]
        times = []
        while wait(reading, timeout=0.05).not_done:
            began = time.perf_counter()
            answer = reader.client.get("/health")
            times.append(time.perf_counter() - began)
            assert answer.json()["status"] == "healthy"
    assert {answer.result().status_code for answer in reading} == {200}
    times.sort()
    print(f"/health: {len(times)} answers, median {times[len(times) // 2] * 1000:.0f} ms,", end=" ")
    print(f"slowest {times[-1] * 1000:.0f} ms")
    assert len(times) > 5
    assert times[-1] < TOO_LONG


def test_bentos_own_routes_stay(reader: Server) -> None:
    for route in ("/healthz", "/livez", "/readyz", "/metrics"):
        assert reader.client.get(route).status_code == 200


def test_the_documentation_loads_nothing_from_another_host(reader: Server) -> None:
    for route in ("/docs", "/redoc"):
        page = reader.client.get(route)
        assert page.status_code == 200
        sources = [part.split('"')[0] for part in page.text.split('src="')[1:]]
        styles = [part.split('"')[0] for part in page.text.split('href="')[1:]]
        assert sources
        for address in sources + styles:
            assert not httpx.URL(address).host
            assert reader.client.get(address).status_code == 200
