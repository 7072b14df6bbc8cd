"""A gateway and two replicas of one model's runner, as on three hosts: an address each."""

import re
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from threading import Event
from typing import Any

import httpx
import pytest

from tests.support.pages import ENGLISH, encode, render
from tests.support.server import RAMBLING, Server, free_port
from tests.support.streams import events
from tests.support.watching import until

PAGE = encode(render(ENGLISH[:1], font_px=20))
SHORT = {"model": RAMBLING, "temperature": "0", "max_tokens": "8"}
TOO_LONG = 10.0
"""Seconds; a request that would wait for its runner's return takes longer."""
LONG = SHORT | {"max_tokens": "4096"}


class Site:
    """Its replicas are killed and started again."""

    def __init__(self, weights: Path) -> None:
        self.weights = weights
        self.at = [(host, free_port(host=host)) for host in ("127.0.0.2", "127.0.0.3")]
        self.urls = [f"http://{host}:{port}" for host, port in self.at]
        self.replicas = [self.replica(number) for number in range(len(self.at))]
        remote = f"{RAMBLING}={'+'.join(self.urls)}"
        self.gateway = Server(host="127.0.0.4", models=RAMBLING, remote=remote)

    def replica(self, number: int) -> Server:
        """The runner alone. The gateway's settings are nothing to it."""
        return Server(
            target=f"service:{RAMBLING}",
            host=self.at[number][0],
            port=self.at[number][1],
            models="reader",
            remote=f"{RAMBLING}={self.urls[number]}",
            preload=RAMBLING,
            weights=self.weights,
            dtype="float32",
        )

    @contextmanager
    def without(self, number: int, end: Callable[[Server], None]) -> Iterator[None]:
        """The replica ends as it is told; another takes its place."""
        end(self.replicas[number])
        until(lambda: self.states()[number] == "unavailable", 5)
        yield
        self.replicas[number].stop()
        self.replicas[number] = self.replica(number).__enter__()
        until(lambda: self.states()[number] == "loaded")

    def chat(self, asked: dict[str, str] = SHORT) -> httpx.Response:
        return self.gateway.client.post("/chat", files={"file": PAGE}, data=asked)

    def listed(self) -> dict[str, Any]:
        """What /models says of the model."""
        available = self.gateway.client.get("/models").json()["available"]
        return next(model for model in available if model["id"] == RAMBLING)

    def of_each(self, what: str) -> list[Any]:
        """What /models says of each replica, in their order."""
        said = {replica["url"]: replica[what] for replica in self.listed()["replicas"]}
        return [said[url] for url in self.urls]

    def states(self) -> list[str]:
        return self.of_each("state")


@pytest.fixture(scope="module")
def site(weights: Path) -> Iterator[Site]:
    site = Site(weights)
    with ExitStack() as stack:
        stack.callback(lambda: [replica.stop() for replica in site.replicas])
        for replica in site.replicas:
            replica.__enter__()
        stack.enter_context(site.gateway)
        yield site


def made(replica: Server) -> float:
    """Rows that have ended, by the replica's own metrics."""
    metrics = replica.client.get("/metrics").text
    found = re.findall(r"^chatvlm_rows_ended_total\{.*\} (\S+)$", metrics, re.MULTILINE)
    return sum(map(float, found))


def test_a_runner_alone_is_ready_once_its_model_is(site: Site) -> None:
    for replica in site.replicas:
        assert replica.client.get("/readyz").status_code == 200
        assert replica.client.post("/status", json={}).json()["state"] == "loaded"
        assert len(replica.children()) == 1


def test_the_gateway_starts_no_runner_for_a_model_that_is_served_elsewhere(site: Site) -> None:
    assert len(site.gateway.children()) == 1
    assert site.gateway.client.get("/readyz").status_code == 200
    health = site.gateway.client.get("/health").json()
    assert (health["status"], health["loaded_models"]) == ("healthy", [RAMBLING])
    assert site.states() == ["loaded", "loaded"]


def test_requests_spread_over_the_replicas(site: Site) -> None:
    before = [made(replica) for replica in site.replicas]
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: site.chat(), range(12)))
    assert {answer.json()["usage"]["completion_tokens"] for answer in answers} == {8}
    did = [made(replica) - was for replica, was in zip(site.replicas, before, strict=True)]
    assert sum(did) == 12
    assert min(did) >= 3


def test_hanging_up_frees_the_row_on_the_other_host(site: Site) -> None:
    with pytest.raises(httpx.ReadTimeout):
        site.gateway.client.post("/chat", files={"file": PAGE}, data=LONG, timeout=1)
    until(lambda: site.listed()["rows"] == 0)


def test_an_unload_reaches_both_and_the_next_requests_load_them(site: Site) -> None:
    assert site.gateway.client.delete(f"/models/{RAMBLING}").status_code == 200
    for replica in site.replicas:
        assert replica.client.post("/status", json={}).json()["state"] == "unloaded"
    assert site.gateway.client.delete(f"/models/{RAMBLING}").status_code == 404
    with ThreadPoolExecutor(4) as pool:
        assert {answer.status_code for answer in pool.map(lambda _: site.chat(), range(8))} == {200}
    until(lambda: site.states() == ["loaded", "loaded"])


@pytest.mark.parametrize("end", [Server.kill, Server.terminate])
def test_a_replica_that_goes_under_load_costs_no_request(
    site: Site, end: Callable[[Server], None]
) -> None:
    over = Event()

    def client(_: int) -> list[httpx.Response]:
        answers = []
        while not over.is_set():
            answers.append(site.chat())
        return answers

    with ThreadPoolExecutor() as pool:
        clients = pool.map(client, range(3))
        try:
            until(lambda: site.of_each("rows")[0] > 0)
            with site.without(0, end):
                assert site.listed()["state"] == "loaded"
                assert site.gateway.client.get("/health").json()["status"] == "healthy"
                assert site.gateway.client.get("/readyz").status_code == 200
                time.sleep(1)
        finally:
            over.set()
        answers = [answer for of_one in clients for answer in of_one]
    assert {answer.status_code for answer in answers} == {200}
    assert max(answer.elapsed.total_seconds() for answer in answers) < TOO_LONG

    before = made(site.replicas[0])
    assert {site.chat().status_code for _ in range(4)} == {200}
    assert made(site.replicas[0]) - before == 2


def test_a_stream_ends_with_an_error_when_its_replica_is_killed(site: Site) -> None:
    asked = LONG | {"stream": "true"}
    with site.gateway.client.stream("POST", "/chat", files={"file": PAGE}, data=asked) as response:
        until(lambda: 1 in site.of_each("rows"))
        with site.without(site.of_each("rows").index(1), Server.kill):
            got = events("".join(response.iter_text()))
            assert site.chat().status_code == 200
    assert {name for name, _ in got[:-1]} == {"piece"}
    assert got[-1][0] == "error"
    assert "lost" in got[-1][1]["detail"]


def test_where_all_replicas_are_gone_the_gateway_says_so_at_once(site: Site) -> None:
    with site.without(0, Server.kill), site.without(1, Server.kill):
        answer = site.chat()
        assert (answer.status_code, set(answer.json())) == (503, {"detail", "code"})
        assert int(answer.headers["retry-after"]) > 0
        assert answer.elapsed.total_seconds() < 1
        assert site.gateway.client.get("/readyz").status_code == 503
        assert site.gateway.client.get("/livez").status_code == 200
        health = site.gateway.client.get("/health").json()
        assert (health["status"], health["unreachable_models"]) == ("degraded", [RAMBLING])
    assert site.chat().status_code == 200
