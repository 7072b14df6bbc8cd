import asyncio
import json
import threading

import pytest

from api.intake import completions
from tests.support.completions import ANSWER, MODEL, ask, error, image, text, user
from tests.support.fakes.runner import picture

CALL = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}


@pytest.mark.parametrize(
    ("sent", "param"),
    [
        ({"n": 17}, "n"),
        ({"n": 0}, "n"),
        ({"logprobs": 5}, "logprobs"),
        ({"top_logprobs": 3}, "top_logprobs"),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
        ({"presence_penalty": 2.5}, "presence_penalty"),
        ({"frequency_penalty": -3}, "frequency_penalty"),
        ({"repetition_penalty": 0}, "repetition_penalty"),
        ({"top_k": -2}, "top_k"),
        ({"min_p": 1.1}, "min_p"),
        ({"min_tokens": -1}, "min_tokens"),
        ({"min_tokens": 20, "max_tokens": 19}, "min_tokens"),
        ({"logit_bias": {"50256": -100}}, "logit_bias"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema.json_schema"),
        ({"response_format": {"type": "xml"}}, "response_format"),
        ({"tools": [{"type": "function"}]}, "tools.0.function"),
        ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, "tools.0.function.name"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"structured_outputs": {"choice": []}}, "structured_outputs.choice"),
        ({"modalities": ["text", "audio"]}, "modalities"),
        ({"reasoning_effort": "high"}, "reasoning_effort"),
        ({"metadata": {"a": "b"}}, "metadata"),
        ({"no_such_thing": 1}, "no_such_thing"),
        ({"temperature": 2.1}, "temperature"),
        ({"temperature": "warm"}, "temperature"),
        ({"top_p": -0.1}, "top_p"),
        ({"seed": 2**63}, "seed"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_completion_tokens": 4097}, "max_completion_tokens"),
        ({"max_tokens": 5, "max_completion_tokens": 6}, "max_tokens"),
        ({"stop": ["a", "b", "c", "d", "e"]}, "stop"),
        ({"stop": ""}, "stop.0"),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
        ({"stream": True, "stream_options": {"include": 1}}, "stream_options.include"),
        ({"messages": []}, "messages"),
        ({"messages": "Hello"}, "messages"),
        ({"model": None}, "model"),
        ({"messages": [user("a"), {"role": "assistant", "content": "b"}]}, "messages"),
        ({"messages": [{"role": "function", "content": "a"}]}, "messages.0.role"),
        ({"messages": [user("a") | {"tool_calls": [CALL]}]}, "messages.0.tool_calls"),
        ({"messages": [{"role": "user", "content": None}]}, "messages.0.content"),
        ({"messages": [{"role": "user", "content": []}]}, "messages.0.content"),
        ({"messages": [user("a") | {"no_such_thing": 1}]}, "messages.0.no_such_thing"),
        ({"messages": [user({"type": "input_audio"})]}, "messages.0.content.0"),
        (
            {"messages": [user(image(picture(), detail="low"))]},
            "messages.0.content.0.image_url.detail",
        ),
        (
            {"messages": [{"role": "system", "content": [image(picture())]}, user("a")]},
            "messages.0.content",
        ),
        ({"messages": [user(*[image(picture())] * 11)]}, "messages.0.content"),
        ({"messages": [user(*[text("a")] * 65)]}, "messages.0.content"),
        ({"messages": [user("a")] * 201}, "messages"),
        ({"messages": [user(*[text("a")] * 70_000)]}, None),
        ({"messages": [user("a"), user(image(b""))]}, None),
    ],
)
async def test_what_is_not_served_is_refused_by_name(client, runners, sent, param):
    status, told = await error(client, **sent)
    assert (status, told["type"], told["param"]) == (400, "invalid_request_error", param)
    assert told["message"].endswith(".")
    assert not runners[MODEL].requests


async def test_null_in_a_schema_stays(client, runners):
    runners[MODEL].outcome = ANSWER
    schema = {"type": "object", "properties": {"a": {"const": None}}}
    form = {"type": "json_schema", "json_schema": {"name": "a", "schema": schema, "strict": None}}
    assert (await ask(client, response_format=form)).status_code == 200
    [request] = runners[MODEL].requests
    assert json.loads(request.constraint.text) == schema


@pytest.mark.parametrize(
    ("body", "said"),
    [(b"{", "The body is not valid JSON."), (b"[]", "The body has to be a JSON object.")],
)
async def test_what_is_no_request_is_told_so(client, body, said):
    headers = {"Content-Type": "application/json"}
    response = await client.post("/v1/chat/completions", content=body, headers=headers)
    assert (response.status_code, response.json()["error"]["message"]) == (400, said)


async def test_while_a_body_is_checked_others_are_answered(client, runners, monkeypatch):
    runners[MODEL].outcome = ANSWER
    others = threading.Event()
    monkeypatch.setattr(completions, "_without_nulls", lambda body: others.wait(10) and body)
    asking = asyncio.create_task(ask(client))
    assert (await client.get("/health")).status_code == 200
    others.set()
    assert (await asking).status_code == 200


async def test_a_body_over_its_limit_is_refused(serve):
    client = serve(max_file_mib=1, max_files=1)
    status, _ = await error(client, user(image(bytes(3 * 2**20))))
    assert status == 413
