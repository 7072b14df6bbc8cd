import asyncio

import pytest

from common.messages import Answer, Piece
from tests.support.fakes.runner import Fails, picture


async def test_more_requests_than_the_gateway_holds_are_refused(serve, runners):
    client = serve(max_requests=2)
    runner = runners["reader"]
    runner.may_answer.clear()
    held = [
        asyncio.create_task(client.post("/ocr", files={"file": picture()})),
        asyncio.create_task(client.post("/batch/ocr", files={"files": picture()})),
    ]
    await runner.has_got(2)
    refused = await client.post("/chat", files={"file": picture()})
    assert (refused.status_code, refused.json()["detail"]) == (
        503,
        "The service is at its limit of requests; try again.",
    )
    assert refused.headers["retry-after"] == "1"
    assert (await client.get("/health")).status_code == 200
    runner.may_answer.set()
    assert [(await request).status_code for request in held] == [200, 200]
    assert (await client.post("/ocr", files={"file": picture()})).status_code == 200


@pytest.mark.parametrize(("route", "field"), [("/ocr", "file"), ("/batch/ocr", "files")])
async def test_a_request_past_its_time_is_answered_and_its_work_cancelled(
    serve, runners, monkeypatch, route, field
):
    monkeypatch.setattr("api.dependencies.admission.DEADLINE_GRACE", 0.0)
    runner = runners["reader"]
    runner.may_answer.clear()
    client = serve(request_timeout=0.2)
    response = await client.post(route, files={field: picture()})
    assert (response.status_code, response.json()["detail"]) == (
        504,
        "The request took longer than its limit of 0.2 seconds.",
    )
    await asyncio.wait_for(runner.stopped.wait(), 10)


async def test_a_place_is_free_again_after_every_end_of_a_request(serve, runners, monkeypatch):
    monkeypatch.setattr("api.dependencies.admission.DEADLINE_GRACE", 0.0)
    client = serve(max_requests=1, request_timeout=0.2)
    runner = runners["reader"]
    assert (await client.post("/ocr", files={"file": b"text"})).status_code == 400
    runner.may_answer.clear()
    assert (await client.post("/ocr", files={"file": picture()})).status_code == 504
    hung_up = asyncio.create_task(client.post("/ocr", files={"file": picture()}))
    await runner.has_got(2)
    hung_up.cancel()
    await asyncio.wait({hung_up})
    runner.may_answer.set()
    runner.outcome = Fails()
    assert (await client.post("/ocr", files={"file": picture()})).status_code == 500
    runner.outcome = None
    assert (await client.post("/ocr", files={"file": picture()})).status_code == 200


async def test_a_stream_holds_its_place_until_its_last_piece(serve, runners):
    runner = runners["reader"]
    runner.may_answer.clear()
    client = serve(max_requests=1)
    answer = Answer(text="A cat.", image_size=(4, 3))
    asked = {"files": {"file": picture()}, "params": {"stream": "true"}}
    runner.stream = [Piece(text="A "), answer]
    stream = asyncio.create_task(client.post("/chat", **asked))
    await asyncio.wait_for(runner.waiting.wait(), 10)
    assert (await client.post("/ocr", files={"file": picture()})).status_code == 503
    runner.may_answer.set()
    assert (await stream).status_code == 200
    assert (await client.post("/ocr", files={"file": picture()})).status_code == 200


async def stalled(*sent: bytes):
    """A body that begins to arrive, and then no more."""
    for chunk in sent:
        yield chunk
    await asyncio.Event().wait()


@pytest.mark.parametrize("route", ["/ocr", "/batch/ocr", "/chat", "/preview"])
async def test_the_time_in_which_a_body_arrives_counts_too(serve, monkeypatch, route):
    monkeypatch.setattr("api.dependencies.admission.DEADLINE_GRACE", 0.0)
    client = serve(max_requests=1, request_timeout=0.5)
    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    late = await client.post(route, content=stalled(b"--b\r\n"), headers=headers)
    assert (late.status_code, late.json()["detail"]) == (
        504,
        "The request took longer than its limit of 0.5 seconds.",
    )
    assert (await client.post("/ocr", files={"file": b"text"})).status_code == 400


@pytest.mark.parametrize(
    "route", ["/ocr", "/batch/ocr", "/chat", "/preview", "/v1/chat/completions"]
)
async def test_a_request_over_the_limit_is_refused_before_its_body_is_read(serve, runners, route):
    client = serve(max_requests=1)
    runner = runners["reader"]
    runner.may_answer.clear()
    held = asyncio.create_task(client.post("/ocr", files={"file": picture()}))
    await runner.has_got(1)
    refused = await asyncio.wait_for(client.post(route, content=stalled()), 10)
    assert refused.status_code == 503
    runner.may_answer.set()
    assert (await held).status_code == 200
