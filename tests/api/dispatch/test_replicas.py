import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import httpx
import pytest

from api.dispatch import replicas
from api.dispatch.replicas import MAX_LOSSES, Replicas
from common.failures import ErrorCode, Failure, Refusal
from common.messages import Piece, Status
from tests.support.fakes.runner import GONE, Dies, FakeRunner, picture, until

HOSTS = ("127.0.0.2", "127.0.0.3", "127.0.0.4")
FULL = Failure(code=ErrorCode.QUEUE_FULL, detail="The queue is full.", retry_after=3)
ASKED = {"files": {"file": picture()}, "params": {"model": "got_ocr"}}


@pytest.fixture(autouse=True)
def quick(monkeypatch) -> None:
    monkeypatch.setattr(replicas, "LOOK_UP_SECONDS", 0.01)
    monkeypatch.setattr("api.dispatch.runner_client.RECONNECT_SECONDS", 0.01)


class Site:
    """Three runners of one model, on a host each; they come and go."""

    def __init__(self) -> None:
        self.runners = [FakeRunner("got_ocr") for _ in HOSTS]
        self.exits = [AsyncExitStack() for _ in HOSTS]
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]

    @property
    def urls(self) -> list[str]:
        return [f"http://{host}:{self.port}" for host in HOSTS]

    async def start(self, *numbers: int) -> None:
        for number in numbers:
            at = (HOSTS[number], self.port)
            await self.exits[number].enter_async_context(self.runners[number].serve(at))

    async def stop(self, number: int) -> None:
        await self.exits[number].aclose()

    def calls(self, call: str = "answer") -> list[int]:
        return [runner.asked.count(call) for runner in self.runners]


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    site = Site()
    yield site
    for number in range(len(HOSTS)):
        await site.stop(number)


@pytest.fixture
async def client(serve, runners, site) -> httpx.AsyncClient:
    """The gateway before the site, whose runners all answer."""
    await site.start(0, 1, 2)
    del runners["got_ocr"]
    client = serve(remote={"got_ocr": site.urls})
    await answering(client, 3)
    return client


async def answering(client, count: int) -> None:
    """Returns when so many runners of the site answer."""
    fleet = client._transport.gateway.fleet

    def reachable() -> list[str]:
        statuses = fleet.remote_statuses("got_ocr")
        return [url for url, status in statuses.items() if status.state != "unavailable"]

    await until(lambda: len(reachable()) == count)


async def post(client, **params) -> httpx.Response:
    route = "/chat" if "stream" in params else "/ocr"
    return await client.post(route, files=ASKED["files"], params=ASKED["params"] | params)


async def listed(client) -> dict:
    return (await client.get("/models")).json()["available"][0]


async def test_requests_at_once_spread_over_all(client, site):
    for runner in site.runners:
        runner.may_answer.clear()
    held = [asyncio.create_task(post(client)) for _ in range(6)]
    await until(lambda: site.calls() == [2, 2, 2])
    for runner in site.runners:
        runner.may_answer.set()
    assert [(await request).status_code for request in held] == [200] * 6


async def test_requests_one_by_one_take_turns(client, site):
    for _ in range(6):
        await post(client)
    assert site.calls() == [2, 2, 2]


async def test_one_that_has_the_model_is_asked_before_one_that_must_load_it(client, site):
    for number in (0, 2):
        site.runners[number].status = Status(state="unloaded")
    await client.get("/models")
    assert (await post(client)).status_code == 200
    assert (site.calls(), site.calls("load")) == ([0, 1, 0], [0, 0, 0])


async def test_while_it_is_busy_another_loads_the_model_for_the_requests_to_come(client, site):
    for number in (0, 2):
        site.runners[number].status = Status(state="unloaded")
    await client.get("/models")
    site.runners[1].may_answer.clear()
    held = [asyncio.create_task(post(client)) for _ in range(2)]
    await until(lambda: sum(site.calls("load")) == 1)
    site.runners[1].may_answer.set()
    assert [(await request).status_code for request in held] == [200, 200]
    assert site.calls() == [0, 2, 0]


async def test_one_whose_last_load_failed_is_asked_last_and_loads_nothing_meanwhile(client, site):
    for runner in site.runners[:2]:
        runner.status = Status(state="unloaded", reason="Too little free memory.")
    site.runners[2].status = Status(state="unloaded")
    await client.get("/models")
    site.runners[2].may_answer.clear()
    held = [asyncio.create_task(post(client)) for _ in range(3)]
    await until(lambda: site.calls() == [0, 0, 3])
    site.runners[2].may_answer.set()
    assert [(await request).status_code for request in held] == [200] * 3
    assert site.calls("load") == [0, 0, 1]


@pytest.mark.parametrize("stream", [{}, {"stream": "true"}])
async def test_a_request_goes_on_to_another_where_one_is_lost_at_work(client, site, stream):
    site.runners[0].outcome = Dies()
    for _ in range(3):
        response = await post(client, **stream)
        assert response.status_code == 200
        assert "4x3" in response.text


async def test_a_request_that_is_lost_with_its_runners_is_not_given_to_all(client, site):
    for runner in site.runners:
        runner.outcome = Dies()
    response = await post(client)
    assert response.status_code == 503
    assert "lost while it worked on this" in response.json()["detail"]
    assert sum(site.calls()) == MAX_LOSSES


async def test_a_full_queue_sends_a_request_to_another(client, site):
    site.runners[0].outcome = site.runners[1].outcome = FULL
    assert (await post(client)).status_code == 200
    site.runners[2].outcome = FULL
    response = await post(client)
    assert (response.status_code, response.headers["retry-after"]) == (503, "3")
    assert response.json()["detail"] == FULL.detail


async def test_what_is_wrong_with_the_request_is_said_by_the_first(client, site):
    for runner in site.runners:
        runner.outcome = Failure(code=ErrorCode.BAD_IMAGE, detail="No image.")
    assert (await post(client)).status_code == 400
    assert sum(site.calls()) == 1


async def test_the_second_try_has_the_time_that_the_first_has_left(client, site):
    for runner in site.runners:
        runner.may_answer.clear()
        runner.outcome = Dies()
    held = asyncio.create_task(post(client))
    await until(lambda: sum(site.calls()) == 1)
    await asyncio.sleep(0.2)
    for runner in site.runners:
        runner.may_answer.set()
    await held
    limits = [limit for runner in site.runners for limit in runner.time_limits]
    second, first = sorted(limits)
    assert second < first - 0.15


async def test_a_stream_is_ended_by_an_error_where_its_runner_is_lost(client, site):
    for runner in site.runners:
        runner.stream = [Piece(text="A "), Dies()]
    response = await post(client, stream="true")
    assert response.status_code == 200
    assert response.text.count("event: piece") == response.text.count("event: error") == 1
    assert sum(site.calls("stream")) == 1


async def test_one_that_is_gone_is_left_out_and_listed_and_used_again(client, site):
    await site.stop(1)
    await answering(client, 2)
    for _ in range(4):
        assert (await post(client)).status_code == 200
    assert site.calls()[1] == 0
    model = await listed(client)
    assert model["state"] == "loaded"
    states = {
        replica["url"]: (replica["state"], replica["reason"]) for replica in model["replicas"]
    }
    loaded = ("loaded", None)
    assert [states[url] for url in site.urls] == [loaded, ("unavailable", GONE), loaded]
    assert (await client.get("/health")).json()["status"] == "healthy"
    await site.start(1)
    await answering(client, 3)
    for _ in range(3):
        await post(client)
    assert site.calls()[1] >= 1


async def test_where_none_answers_the_model_is_unavailable_and_the_others_are_not(client, site):
    for number in range(3):
        await site.stop(number)
    await answering(client, 0)
    response = await post(client)
    assert (response.status_code, response.json()["detail"]) == (503, GONE)
    assert int(response.headers["retry-after"]) > 0
    assert (await listed(client))["state"] == "unavailable"
    health = (await client.get("/health")).json()
    assert (health["status"], health["unreachable_models"]) == ("degraded", ["got_ocr"])
    assert (await client.post("/ocr", files=ASKED["files"])).status_code == 200


async def test_an_unload_reaches_all(client, site):
    site.runners[0].status = Status(state="unloaded")
    assert (await client.delete("/models/got_ocr")).status_code == 200
    assert [runner.status.state for runner in site.runners] == ["unloaded"] * 3
    assert (await client.delete("/models/got_ocr")).status_code == 404
    assert (await listed(client))["state"] == "unloaded"


async def test_an_unload_that_reaches_none_says_so(site):
    nobody = Replicas("got_ocr", site.urls)
    with pytest.raises(Refusal, match=GONE):
        await nobody.unload()


async def test_memory_and_requests_of_all_are_added_up(client, site, monkeypatch):
    monkeypatch.setattr("api.dispatch.runner_client.CACHED_STATUS_TIMEOUT", 10)  # machines are busy
    for runner in site.runners:
        runner.status = Status(state="loaded", memory_bytes=5, rows=2, queued=1)
    model = await listed(client)
    assert (model["memory_bytes"], model["rows"], model["queued"]) == (15, 6, 3)
    assert [replica["rows"] for replica in model["replicas"]] == [2, 2, 2]


class TestNames:
    """A host name stands for all the addresses that it resolves to."""

    @pytest.fixture
    async def resolved(self, monkeypatch) -> list[str]:
        """Change it, and the name resolves to something else."""
        addresses: list[str] = []

        async def resolve(host, port, **_) -> list:
            assert host == "got-ocr"
            if not addresses:
                raise socket.gaierror(socket.EAI_NONAME, "no such name")
            if addresses == ["broken"]:
                raise socket.gaierror(socket.EAI_AGAIN, "try again")
            four = [(socket.AF_INET, 1, 6, "", (address, port)) for address in addresses]
            return [*four, (socket.AF_INET6, 1, 6, "", ("fd00::1", port, 0, 0))]

        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", resolve)
        return addresses

    @pytest.fixture
    async def named(self, site, resolved) -> AsyncIterator[Replicas]:
        await site.start(0, 1)
        named = Replicas("got_ocr", [f"http://got-ocr:{site.port}"])
        named.open()
        yield named
        named.close()

    async def test_replicas_come_and_go_with_their_addresses(self, named, site, resolved):
        await asyncio.sleep(0.05)
        assert named.runners == []
        resolved[:] = HOSTS[:2]
        await until(lambda: len(named.reachable) == 2)
        assert sorted(runner.url for runner in named.runners) == site.urls[:2]
        resolved[:] = HOSTS[1:2]
        await until(lambda: len(named.runners) == 1)
        assert named.runners[0].reachable
        resolved.clear()
        await until(lambda: not named.runners)

    async def test_a_resolver_in_trouble_takes_nobody_away(self, named, resolved):
        resolved[:] = HOSTS[:1]
        await until(lambda: len(named.reachable) == 1)
        resolved[:] = ["broken"]
        await asyncio.sleep(0.05)
        assert len(named.reachable) == 1
