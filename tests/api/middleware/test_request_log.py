import logging

import httpx
import pytest

from api.app import app
from api.gateway import current_gateway
from api.middleware.request_log import RequestLog
from common.failures import ErrorCode, Failure
from common.logs.setup import REQUESTS
from common.messages import Answer, Usage
from tests.support.fakes.runner import picture


@pytest.fixture
async def logged(client, caplog):
    """A client of the app behind `RequestLog`."""
    caplog.set_level(logging.INFO, REQUESTS)
    await client.get("/health")  # waits until the runners answer
    assert current_gateway in app.dependency_overrides
    transport = httpx.ASGITransport(RequestLog(app), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
        yield client


@pytest.fixture
def line(caplog):
    """The fields of the one line that was logged."""

    def read() -> dict:
        [record] = [record for record in caplog.records if record.name == REQUESTS]
        names = ("method", "route", "status", "model", "pages", "tokens", "reason")
        return {name: getattr(record, name) for name in names if hasattr(record, name)}

    return read


async def test_an_answer_is_logged_with_its_model_pages_and_tokens(logged, runners, line):
    usage = Usage(prompt_tokens=5, completion_tokens=7, visual_tokens=1)
    runners["reader"].outcome = Answer(text="a", image_size=(4, 3), usage=usage)
    await logged.post("/batch/ocr", files=[("files", picture())] * 2)
    assert line() == {
        "method": "POST",
        "route": "/batch/ocr",
        "status": 200,
        "model": "reader",
        "pages": 2,
        "tokens": 14,
    }


async def test_the_route_is_logged_and_not_the_name_in_it(logged, line):
    await logged.delete("/models/got_ocr")
    assert (line()["route"], line()["status"]) == ("/models/{model_name}", 200)


async def test_a_refusal_is_logged_with_its_reason(logged, runners, line):
    await logged.post("/ocr", files={"file": b"text"})
    assert (line()["status"], line()["model"]) == (400, "reader")
    assert line()["reason"].startswith("The file is not a readable image")


async def test_a_stream_that_fails_in_the_middle_is_logged_with_its_reason(logged, runners, line):
    runners["reader"].stream = [Failure(code=ErrorCode.DEADLINE, detail="Time is up.")]
    await logged.post("/chat", files={"file": picture()}, params={"stream": "true"})
    assert (line()["status"], line()["reason"]) == (504, "Time is up.")


async def test_an_unknown_route_is_logged_by_its_path_cut_short(logged, line):
    await logged.get("/" + "x" * 999)
    assert line() == {
        "method": "GET",
        "route": "/" + "x" * 199,
        "status": 404,
        "reason": line()["reason"],
    }


async def test_probes_are_not_logged(logged, caplog):
    await logged.get("/livez")
    assert not [record for record in caplog.records if record.name == REQUESTS]


@pytest.mark.parametrize("path", ["/health", "/nowhere"])
async def test_the_id_of_a_request_is_answered(logged, path):
    response = await logged.get(path, headers={"X-Request-ID": "abc"})
    assert response.headers["x-request-id"] == "abc"
    first, second = [(await logged.get(path)).headers["x-request-id"] for _ in range(2)]
    assert first != second


async def test_the_id_of_a_request_reaches_the_runner(logged, runners):
    await logged.post("/ocr", files={"file": picture()}, headers={"X-Request-ID": "abc"})
    params = {"stream": "true"}
    await logged.post(
        "/chat", files={"file": picture()}, params=params, headers={"X-Request-ID": "def"}
    )
    assert runners["reader"].request_ids == ["abc", "def"]
