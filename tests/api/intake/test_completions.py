import asyncio
import json
import threading

import pytest

from api.intake import completions
from tests.support.fakes.runner import base64_of, data_url, picture
from tests.support.sent.completions import ANSWER, MODEL, ask, error, image, text, user

CALL = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}


@pytest.mark.parametrize(
    ("sent", "param"),
    [
        ({"n": 17}, "n"),
        ({"n": 0}, "n"),
        ({"logprobs": 5}, "logprobs"),
        ({"top_logprobs": 3}, "top_logprobs"),
        ({"repetition_penalty": 0}, "repetition_penalty"),
        ({"top_k": -2}, "top_k"),
        ({"min_tokens": -1}, "min_tokens"),
        ({"logit_bias": {"50256": -100}}, "logit_bias"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema.json_schema"),
        ({"response_format": {"type": "xml"}}, "response_format"),
        ({"tools": [{"type": "function"}]}, "tools.0.function"),
        ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, "tools.0.function.name"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"structured_outputs": {"choice": []}}, "structured_outputs.choice"),
        ({"modalities": ["text", "audio"]}, "modalities"),
        ({"audio": {"voice": "alloy"}}, "audio"),
        ({"functions": [{"name": "f"}]}, "functions"),
        ({"continue_final_message": True}, "continue_final_message"),
        ({"stop_token_ids": [1]}, "stop_token_ids"),
        ({"temperature": -0.1}, "temperature"),
        ({"temperature": "warm"}, "temperature"),
        ({"top_p": -0.1}, "top_p"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"stop": ["a"] * 17}, "stop"),
        ({"stop": ""}, "stop.0"),
        ({"messages": []}, "messages"),
        ({"messages": "Hello"}, "messages"),
        ({"model": None}, "model"),
        ({"messages": [{"role": "critic", "content": "a"}]}, "messages.0.role"),
        ({"messages": [user("a") | {"tool_calls": [CALL]}]}, "messages.0.tool_calls"),
        ({"messages": [{"role": "user", "content": None}]}, "messages.0.content"),
        ({"messages": [{"role": "user", "content": []}]}, "messages.0.content"),
        ({"messages": [{"role": "system", "content": []}]}, "messages"),
        ({"messages": [user({"type": "input_audio"})]}, "messages.0.content.0"),
        (
            {"messages": [{"role": "system", "content": [image(picture())]}, user("a")]},
            "messages.0.content",
        ),
        ({"messages": [user(*[text("a")] * 257)]}, "messages.0.content"),
        ({"messages": [user("a")] * 1001}, "messages"),
        ({"messages": [user(*[text("a")] * 70_000)]}, None),
        ({"messages": [user("a"), user(image(b""))]}, None),
    ],
)
async def test_what_is_not_served_is_refused_by_name(client, runners, sent, param):
    status, told = await error(client, **sent)
    assert (status, told["type"], told["param"]) == (400, "invalid_request_error", param)
    assert told["message"].endswith(".")
    assert not runners[MODEL].requests


UNKNOWN = {
    "no_such_thing": 1,
    "metadata": {"a": "b"},
    "service_tier": "auto",
    "reasoning_effort": "high",
    "chat_template_kwargs": {"enable_thinking": False},
    "mm_processor_kwargs": {},
    "skip_special_tokens": True,
    "user": ["somebody"],
    "functions": [],
    "logit_bias": {},
    "modalities": ["text"],
    "stream_options": {"include_usage": True, "include_obfuscation": False},
}


@pytest.mark.parametrize("name", UNKNOWN)
async def test_what_changes_nothing_is_passed_over(client, runners, name):
    runners[MODEL].outcome = ANSWER
    assert (await ask(client, **{name: UNKNOWN[name]})).status_code == 200


@pytest.mark.parametrize(
    "message",
    [
        user("a") | {"name": "Ann", "no_such_thing": 1},
        user(image(picture(), detail="original", format="png") | {"uuid": "1"}),
        user(text("a") | {"cache_control": {"type": "ephemeral"}}),
        user({"type": "image_url", "image_url": data_url(picture())}),
        user({"type": "image_url", "image_url": {"url": base64_of(picture())}}),
        user({"type": "file", "file": {"file_data": base64_of(picture()), "filename": 5}}),
        user(text("a" * 30_000)),
    ],
)
async def test_messages_are_taken_as_clients_write_them(client, runners, message):
    runners[MODEL].outcome = ANSWER
    assert (await ask(client, message)).status_code == 200


@pytest.mark.parametrize(
    "said",
    [
        {"role": "assistant", "content": None, "refusal": None, "annotations": []},
        {"role": "assistant", "tool_calls": [], "reasoning_content": "Hm."},
        {"role": "assistant", "content": []},
        {"role": "assistant", "content": None, "tool_calls": [CALL]},
        {"role": "tool", "tool_call_id": "1", "content": "Sun."},
        {"role": "function", "name": "f", "content": "Sun."},
        {"role": "system", "content": []},
    ],
)
async def test_histories_of_agents_are_taken(client, runners, said):
    runners[MODEL].outcome = ANSWER
    assert (await ask(client, user("a"), said, user("b"))).status_code == 200


async def test_a_conversation_may_end_with_the_models_own_words(client, runners):
    runners[MODEL].outcome = ANSWER
    response = await ask(client, user("a"), {"role": "assistant", "content": "b"})
    assert response.status_code == 200


@pytest.mark.parametrize(
    ("sent", "name", "value"),
    [
        ({"temperature": 3}, "temperature", 2),
        ({"top_p": 1.5}, "top_p", 1),
        ({"min_p": 1.1}, "min_p", 1),
        ({"presence_penalty": 2.5}, "presence_penalty", 2),
        ({"frequency_penalty": -3}, "frequency_penalty", -2),
        ({"repetition_penalty": 11}, "repetition_penalty", 10),
        ({"logprobs": True, "top_logprobs": 21}, "logprobs", 20),
        ({"seed": 2**63}, "seed", 2**63 - 1),
        ({"max_tokens": 32_768}, "max_tokens", 32_768),
        ({"max_tokens": 10**30}, "max_tokens", 2**31 - 1),
        ({"max_tokens": 5, "max_completion_tokens": 6}, "max_tokens", 6),
        ({"min_tokens": 20, "max_tokens": 19}, "min_tokens", 19),
    ],
)
async def test_a_number_over_its_limit_is_lowered_to_it(client, runners, sent, name, value):
    runners[MODEL].outcome = ANSWER
    assert (await ask(client, **sent)).status_code == 200
    [request] = runners[MODEL].requests
    assert getattr(request, name) == value


async def test_images_are_counted_by_what_the_model_takes(client, runners):
    runners[MODEL].outcome = ANSWER
    assert (await ask(client, user(*[image(picture())] * 20))).status_code == 200
    status, told = await error(client, user(*[image(picture())] * 21))
    assert (status, "at most 20 images" in told["message"]) == (400, True)


async def test_the_reader_answers_the_last_message_only(client):
    said = [user(image(picture())), {"role": "assistant", "content": "b"}]
    status, told = await error(client, *said, model="reader")
    assert (status, told["param"]) == (400, "messages")


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
