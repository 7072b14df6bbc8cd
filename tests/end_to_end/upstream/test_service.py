"""The whole service before a small server of OpenAI's protocol."""

import asyncio
import threading
from collections.abc import Callable, Iterator

import pytest

from tests.support.fakes.runner import data_url, picture
from tests.support.fakes.upstream import FakeUpstream, refusal
from tests.support.server import Server
from tests.support.watching import until

MODEL = "qwen3_vl_8b"
MESSAGES = [{"role": "user", "content": "Who?"}]


class Background:
    """A fake upstream in a thread of its own."""

    def __init__(self) -> None:
        self.fake = FakeUpstream()
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._end = asyncio.Event()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._run(),))

    def __enter__(self) -> "Background":
        self._thread.start()
        assert self._ready.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self.call(self._end.set)
        self._thread.join(10)
        self._loop.close()

    def call(self, function: Callable[[], object]) -> None:
        """Call it in the loop of the server."""
        self._loop.call_soon_threadsafe(function)

    async def _run(self) -> None:
        async with self.fake.serve():
            self._ready.set()
            await self._end.wait()


@pytest.fixture(scope="module")
def background() -> Iterator[Background]:
    with Background() as background:
        yield background


@pytest.fixture(scope="module")
def server(background: Background) -> Iterator[Server]:
    with Server(
        models=f"{MODEL},reader",
        upstream=f"{MODEL}={background.fake.url}",
        upstream_keys=f"{MODEL}=sk-secret",
        reader_processes=1,
    ) as server:
        yield server


def test_a_page_is_read_by_the_other_server(server, background):
    page = picture(300, 200)
    answered = server.client.post(
        "/chat", files={"file": page}, data={"model": MODEL, "prompt": "What is this?"}
    )
    assert answered.status_code == 200, answered.text
    body = answered.json()
    assert (body["response"], body["finish_reason"]) == ("Two words", "stop")
    assert background.fake.headers[-1]["Authorization"] == "Bearer sk-secret"
    assert background.fake.headers[-1]["X-Request-ID"] == answered.headers["X-Request-ID"]
    assert "sk-secret" not in server.new_log()


@pytest.mark.parametrize("stream", [False, True])
def test_openais_protocol_goes_through(server, stream):
    parts = [
        {"type": "image_url", "image_url": {"url": data_url(picture(64, 64))}},
        {"type": "text", "text": "What is this?"},
    ]
    body = {
        "model": MODEL,
        "messages": [{"role": "user", "content": parts}],
        "stream": stream,
        "stream_options": {"include_usage": True} if stream else None,
    }
    answered = server.client.post("/v1/chat/completions", json=body)
    assert answered.status_code == 200, answered.text
    if stream:
        assert '"content":" words"' in answered.text.replace('": "', '":"')
        assert '"completion_tokens":2' in answered.text.replace(": ", ":")
    else:
        assert answered.json()["choices"][0]["message"]["content"] == "Two words"
        assert answered.json()["usage"]["completion_tokens"] == 2


def test_its_card_and_health_are_those_of_the_other_server(server):
    listed = server.client.get("/models").json()["available"]
    (card,) = (model for model in listed if model["id"] == MODEL)
    assert (card["state"], card["device"]) == ("loaded", "upstream")
    assert MODEL in server.client.get("/health").json()["loaded_models"]
    unloaded = server.client.delete(f"/models/{MODEL}")
    assert unloaded.status_code == 404
    assert "which alone unloads it" in unloaded.json()["detail"]


def test_a_full_server_is_answered_with_its_retry_after(server, background):
    background.fake.refusals = [refusal(429, **{"Retry-After": "7"})]
    answered = server.client.post(
        "/v1/chat/completions", json={"model": MODEL, "messages": MESSAGES}
    )
    assert (answered.status_code, answered.headers["Retry-After"]) == (503, "7")


def test_a_client_that_hangs_up_stops_the_other_server(server, background):
    fake = background.fake
    background.call(fake.may_end.clear)
    body = {"model": MODEL, "messages": MESSAGES, "stream": True}
    with server.client.stream("POST", "/v1/chat/completions", json=body) as answered:
        assert "Two" in next(line for line in answered.iter_lines() if "Two" in line)
    until(fake.stopped.is_set, 10)
    background.call(fake.may_end.set)


def test_when_the_other_server_is_gone_the_service_says_so_and_still_reads(background):
    with Background() as other:
        url = other.fake.url
    with Server(models=f"{MODEL},reader", upstream=f"{MODEL}={url}", reader_processes=1) as server:
        body = {"model": MODEL, "messages": MESSAGES}
        answered = server.client.post("/v1/chat/completions", json=body)
        assert (answered.status_code, answered.headers["Retry-After"]) == (503, "10")
        assert "does not answer at the moment" in answered.text
        loaded = server.client.post(f"/models/{MODEL}")
        assert loaded.status_code == 503
        until(lambda: server.client.get("/health").json()["unreachable_models"] == [MODEL], 10)
        assert server.client.get("/readyz").status_code == 200
