"""Each way in which an upstream may fail, as the service answers it."""

import asyncio

import pytest
from aiohttp import web

from common.deadline import Deadline
from common.failures import ErrorCode, Refusal
from common.messages import Request, single_turn
from runners.upstream import served, server
from tests.support.fakes.upstream import FakeUpstream, refusal
from tests.support.server import free_port

QUESTION = Request(task="chat", turns=single_turn([], "Who?"), max_tokens=100)
LOST = (ErrorCode.UNAVAILABLE, 10)


async def refused(engine, seconds=10.0) -> Refusal:
    with pytest.raises(Refusal) as caught:
        await engine.answer(QUESTION, Deadline(seconds))
    detail = caught.value.failure.detail
    assert "Qwen3-VL 8B" in detail
    assert not {"http", "127.0.0.1", "secret"} & set(detail.replace("/", " ").split())
    return caught.value


async def known(engine) -> None:
    """Let the engine find its model."""
    await engine.load()


@pytest.mark.parametrize(
    ("response", "code", "retry_after", "says"),
    [
        (lambda: refusal(401), ErrorCode.UNAVAILABLE, None, "CHATVLM_UPSTREAM_KEYS"),
        (lambda: refusal(403), ErrorCode.UNAVAILABLE, None, "CHATVLM_UPSTREAM_KEYS"),
        (lambda: refusal(404), ErrorCode.UNAVAILABLE, None, "ends in /v1"),
        (lambda: refusal(429, **{"Retry-After": "7"}), ErrorCode.QUEUE_FULL, 7, "too many"),
        (lambda: refusal(503, **{"Retry-After": "0"}), ErrorCode.QUEUE_FULL, 1, "too many"),
        (lambda: refusal(503), ErrorCode.QUEUE_FULL, 10, "too many requests"),
        (
            lambda: refusal(503, **{"Retry-After": "Fri, 27 Nov 2026 00:00:00 GMT"}),
            ErrorCode.QUEUE_FULL,
            10,
            "too many requests",
        ),
        (lambda: refusal(413), ErrorCode.TOO_LARGE, None, "smaller or fewer images"),
        (lambda: refusal(400, "At most 1 image(s)"), ErrorCode.BAD_PARAMETER, None, "log says"),
        (lambda: refusal(500), ErrorCode.FAULT, None, "failed on this request"),
        (lambda: web.Response(status=502, text="<html>"), *LOST, "does not answer"),
        (lambda: web.Response(status=504, text="<html>"), *LOST, "does not answer"),
        (
            lambda: web.Response(status=302, headers={"Location": "http://elsewhere/"}),
            ErrorCode.UNAVAILABLE,
            None,
            "ends in /v1",
        ),
        (lambda: web.json_response({"choices": []}), ErrorCode.FAULT, None, "OpenAI's protocol"),
    ],
)
async def test_a_refusal_of_the_server(engine, upstream, response, code, retry_after, says):
    await known(engine)
    upstream.refusals = [response()]
    failure = (await refused(engine)).failure
    assert (failure.code, failure.retry_after) == (code, retry_after)
    assert says in failure.detail


async def test_a_server_that_is_not_there(make):
    engine = make(upstream={"qwen3_vl_8b": f"http://127.0.0.1:{free_port()}/v1"})
    failure = (await refused(engine)).failure
    assert (failure.code, failure.retry_after) == LOST
    status = await engine.status()
    assert (status.state, status.reason) == ("unavailable", failure.detail)


async def test_a_server_that_goes_and_comes_back(make, monkeypatch):
    monkeypatch.setattr(served, "FRESH_SECONDS", 0)
    port = free_port()
    engine = make(upstream={"qwen3_vl_8b": f"http://127.0.0.1:{port}/v1"})
    async with FakeUpstream().serve(port):
        assert (await engine.status()).state == "loaded"
    assert (await engine.status()).state == "unavailable"
    assert (await refused(engine)).failure.retry_after == 10
    async with FakeUpstream().serve(port):
        assert (await engine.answer(QUESTION, Deadline(10))).text == "Two words"
        assert (await engine.status()).state == "loaded"


async def test_a_server_that_serves_other_models_names_them(engine, upstream):
    upstream.models = [{"id": "Qwen/Qwen2-VL-2B-Instruct"}, {"id": "/srv/secret/llama"}]
    failure = (await refused(engine)).failure
    assert (failure.code, failure.retry_after) == (ErrorCode.UNAVAILABLE, None)
    assert "'qwen2-vl-2b-instruct', 'llama'" in failure.detail
    assert "CHATVLM_UPSTREAM_NAMES" in failure.detail


async def test_a_model_that_is_no_longer_served_is_noticed_and_those_that_are_are_named(
    engine, upstream
):
    await known(engine)
    upstream.models = [{"id": "other"}]
    upstream.refusals = [refusal(404, "The model does not exist")]
    assert "'other'" in (await refused(engine)).failure.detail


@pytest.mark.parametrize("status", [401, 404])
async def test_a_list_of_models_that_is_refused(engine, upstream, status):
    upstream.refusals = [refusal(status)]
    failure = (await refused(engine)).failure
    assert (failure.code, failure.retry_after) == (ErrorCode.UNAVAILABLE, None)
    assert (await engine.status()).reason == failure.detail


@pytest.mark.parametrize("body", ["<html>", '{"data": [{}]}', "[]"])
async def test_a_list_of_models_that_is_none(engine, upstream, body):
    upstream.refusals = [web.Response(text=body)]
    assert (await refused(engine)).code is ErrorCode.FAULT


async def test_a_list_of_models_that_does_not_come(engine, upstream, monkeypatch):
    monkeypatch.setattr(server, "PROBE_SECONDS", 0.2)
    upstream.may_list.clear()
    status = await engine.status()
    assert (status.state, "does not answer" in status.reason) == ("unavailable", True)
    with pytest.raises(Refusal, match="does not answer"):
        await engine.load()


async def test_the_time_for_the_list_counts_for_the_request(engine, upstream):
    upstream.may_list.clear()
    assert (await late(engine)).code is ErrorCode.DEADLINE


async def late(engine) -> Refusal:
    with pytest.raises(Refusal) as caught:
        await engine.answer(QUESTION, Deadline(0.3))
    return caught.value


@pytest.mark.parametrize("reason", [None, "stop"])
async def test_a_stream_that_is_cut_in_its_middle(engine, upstream, reason):
    upstream.reason, upstream.breaks_off = reason, reason is not None
    failure = (await refused(engine)).failure
    assert (failure.code, failure.retry_after) == LOST
    assert "broke off" in failure.detail


@pytest.mark.parametrize("line", ["data: {", "data: []", 'data: {"choices": [{"delta": 5}]}'])
async def test_a_stream_that_is_not_the_protocol(engine, upstream, line):
    upstream.lines = [line]
    failure = (await refused(engine)).failure
    assert (failure.code, "OpenAI's protocol" in failure.detail) == (ErrorCode.FAULT, True)


async def test_comments_and_other_fields_of_a_stream_are_passed_over(engine, upstream):
    done = 'data: {"choices": [{"delta": {"content": "a"}, "finish_reason": "stop"}]}'
    upstream.lines = [": ping", "event: x", done, "data: [DONE]", "data: {"]
    assert (await engine.answer(QUESTION, Deadline(10))).text == "a"


@pytest.mark.parametrize(
    ("error", "code"),
    [
        ('{"message": "engine is dead", "code": 500}', ErrorCode.FAULT),
        ('{"message": "busy", "code": 503}', ErrorCode.QUEUE_FULL),
        ('{"message": "the context length is 9", "code": 400}', ErrorCode.BAD_PARAMETER),
        ('{"message": "x", "code": "odd"}', ErrorCode.FAULT),
    ],
)
async def test_an_error_within_a_stream(engine, upstream, error, code):
    begun = 'data: {"choices": [{"delta": {"content": "a"}}]}'
    upstream.lines = [begun, f'data: {{"error": {error}}}']
    assert (await refused(engine)).code is code
    assert len(upstream.bodies) == 1


async def test_an_answer_that_ends_for_an_unknown_reason_is_not_taken_for_whole(engine, upstream):
    upstream.reason = "abort"
    assert (await refused(engine)).code is ErrorCode.FAULT


async def test_a_broken_image_is_refused_before_anything_is_sent(engine, upstream):
    request = Request(task="ocr", turns=single_turn([b"\x89PNG\r\n\x1a\nno"]), max_tokens=9)
    with pytest.raises(Refusal) as caught:
        await engine.answer(request, Deadline(10))
    assert caught.value.code is ErrorCode.BAD_IMAGE
    assert upstream.bodies == []


async def test_statuses_ask_the_server_once_in_a_while(engine, upstream):
    await asyncio.gather(*(engine.status() for _ in range(5)))
    assert upstream.listed == 1
