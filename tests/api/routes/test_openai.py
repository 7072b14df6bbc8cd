import asyncio
import json
import threading

import httpx
import pytest

from api.intake import completions
from common.failures import ErrorCode, Failure
from common.messages import Answer, Image, Line, Piece, Status, Turn, Usage
from tests.support.documents import pdf
from tests.support.fakes.runner import Fails, data_url, picture
from tests.support.streams import UNBUFFERED

MODEL = "qwen3_vl_2b"
ANSWER = Answer(
    text="A cat.",
    image_size=(4, 3),
    finish_reason="stop",
    usage=Usage(prompt_tokens=30, visual_tokens=20, completion_tokens=3),
)


def image(data: bytes, **more: str) -> dict:
    return {"type": "image_url", "image_url": {"url": data_url(data), **more}}


def text(words: str) -> dict:
    return {"type": "text", "text": words}


def user(*parts: dict | str) -> dict:
    content = parts[0] if isinstance(parts[0], str) else list(parts)
    return {"role": "user", "content": content}


async def ask(client: httpx.AsyncClient, *said: dict, **more: object) -> httpx.Response:
    body = {"model": MODEL, "messages": list(said) or [user("What?")]} | more
    return await client.post("/v1/chat/completions", json=body)


async def error(client: httpx.AsyncClient, *said: dict, **more: object) -> tuple[int, dict]:
    response = await ask(client, *said, **more)
    assert set(response.json()) == {"error"}
    return response.status_code, response.json()["error"]


def chunks(body: str) -> list[dict]:
    *events, done, end = body.split("\n\n")
    assert (done, end) == ("data: [DONE]", "")
    return [json.loads(event.removeprefix("data: ")) for event in events]


async def test_an_answer_is_a_chat_completion(client, runners):
    runners[MODEL].outcome = ANSWER
    response = await ask(client, user(text("What?"), image(picture())))
    assert response.status_code == 200
    completion = response.json()
    assert completion.pop("id").startswith("chatcmpl-")
    assert completion.pop("created") > 1_700_000_000
    assert completion == {
        "object": "chat.completion",
        "model": MODEL,
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "A cat.", "refusal": None},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": {"prompt_tokens": 30, "completion_tokens": 3, "total_tokens": 33},
    }


@pytest.mark.parametrize(
    ("ended", "reason"),
    [("stop", "stop"), ("length", "length"), ("repetition", "length"), ("deadline", "length")],
)
async def test_what_was_cut_off_is_said_to_be(client, runners, ended, reason):
    runners[MODEL].outcome = ANSWER.model_copy(update={"finish_reason": ended})
    assert (await ask(client)).json()["choices"][0]["finish_reason"] == reason


async def test_what_the_embedded_reader_says_more_is_there_too(client, runners):
    line = Line(text="A cat.", box=(1, 2, 3, 4), confidence=0.9)
    runners["tesseract"].outcome = ANSWER.model_copy(update={"lines": [line], "prompt_used": True})
    completion = (await ask(client, user(image(picture())), model="tesseract")).json()
    assert completion["lines"] == [line.model_dump(mode="json")]
    assert completion["prompt_used"] is True


async def test_the_runner_gets_the_conversation_in_its_order(client, runners):
    runners[MODEL].outcome = ANSWER
    await ask(
        client,
        {"role": "developer", "content": "Be brief."},
        user(text("This"), image(picture(5, 1)), text("or"), image(picture(6, 1), detail="high")),
        {"role": "assistant", "content": "This.", "refusal": None, "tool_calls": None},
        user("Why?"),
    )
    [request] = runners[MODEL].requests
    shown = [Image(data=picture(width, 1)) for width in (5, 6)]
    assert request.task == "chat"
    assert request.turns == (
        Turn(role="system", parts=("Be brief.",)),
        Turn(role="user", parts=("This", shown[0], "or", shown[1])),
        Turn(role="assistant", parts=("This.",)),
        Turn(role="user", parts=("Why?",)),
    )


async def test_a_document_is_all_its_pages(client):
    file = {"file_data": data_url(pdf((), ()), "application/pdf"), "filename": "a.pdf"}
    document = {"type": "file", "file": file}
    completion = (await ask(client, user(image(picture()), document, text("Read.")))).json()
    assert completion["choices"][0]["message"]["content"] == "4x3 1653x2339 1653x2339"


async def test_the_runner_gets_how_to_answer(client, runners):
    runners[MODEL].outcome = ANSWER
    sent = {"temperature": 1.5, "top_p": 0.3, "seed": 7, "stop": "\n", "max_completion_tokens": 9}
    neutral = {"n": 1, "presence_penalty": 0, "tools": [], "logprobs": False, "logit_bias": None}
    await ask(client, **sent, **neutral, response_format={"type": "text"}, user="me")
    [request] = runners[MODEL].requests
    assert (request.temperature, request.top_p, request.seed) == (1.5, 0.3, 7)
    assert (request.stop, request.max_tokens) == (("\n",), 9)


async def test_without_a_word_on_it_the_defaults_hold(client, runners):
    runners[MODEL].outcome = ANSWER
    await ask(client, max_tokens=None)
    [request] = runners[MODEL].requests
    assert (request.temperature, request.top_p, request.seed) == (0.7, 1, None)
    assert (request.stop, request.max_tokens) == ((), 2048)


@pytest.mark.parametrize(
    ("sent", "param"),
    [
        ({"n": 2}, "n"),
        ({"logprobs": True}, "logprobs"),
        ({"top_logprobs": 3}, "top_logprobs"),
        ({"presence_penalty": 0.5}, "presence_penalty"),
        ({"frequency_penalty": -1}, "frequency_penalty"),
        ({"logit_bias": {"50256": -100}}, "logit_bias"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"tools": [{"type": "function"}]}, "tools"),
        ({"tool_choice": "auto"}, "tool_choice"),
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
        ({"messages": [{"role": "tool", "content": "a", "tool_call_id": "b"}]}, "messages.0.role"),
        ({"messages": [{"role": "user", "content": None}]}, "messages.0.content"),
        ({"messages": [{"role": "user", "content": []}]}, "messages.0.content"),
        ({"messages": [user("a") | {"name": "Ann"}]}, "messages.0.name"),
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


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(
    ("failure", "status", "code"),
    [
        (Failure(code=ErrorCode.QUEUE_FULL, detail="The queue is full.", retry_after=3), 503, None),
        (Failure(code=ErrorCode.DEADLINE, detail="Time is up."), 504, None),
        (Failure(code=ErrorCode.BAD_PARAMETER, detail="Too long."), 400, None),
    ],
)
async def test_a_failure_is_openais_error(client, runners, stream, failure, status, code):
    runners[MODEL].outcome = failure
    response = await ask(client, stream=stream)
    kind = "server_error" if status >= 500 else "invalid_request_error"
    assert response.status_code == status
    assert response.json() == {
        "error": {"message": failure.detail, "type": kind, "param": None, "code": code}
    }
    assert response.headers.get("retry-after") == ("3" if status == 503 else None)


async def test_an_unknown_model_and_a_wrong_url_are_openais_errors_too(client):
    status, told = await error(client, model="gpt-5")
    assert (status, told["code"]) == (404, "model_not_found")
    for method, path, status in (
        ("GET", "/v1/nowhere", 404),
        ("GET", "/v1/chat/completions", 405),
        ("POST", "/v1/embeddings", 404),
    ):
        response = await client.request(method, path)
        assert response.status_code == status
        assert set(response.json()["error"]) == {"message", "type", "param", "code"}


async def test_a_fault_is_openais_error(client, runners):
    runners[MODEL].outcome = Fails()
    status, told = await error(client)
    assert (status, told["type"]) == (500, "server_error")


@pytest.mark.parametrize(
    ("body", "said"),
    [(b"{", "The body is not valid JSON."), (b"[]", "The body has to be a JSON object.")],
)
async def test_what_is_no_request_is_told_so(client, body, said):
    response = await client.post("/v1/chat/completions", content=body)
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


@pytest.mark.parametrize("model", ["got_ocr", "dots_ocr"])
async def test_a_model_that_takes_one_question_about_one_image_gets_no_more(client, runners, model):
    shown = user(image(picture()), text("Read."))
    runners[model].outcome = ANSWER
    assert (await ask(client, shown, model=model)).status_code == 200
    for said in ([user("What?")], [shown, {"role": "assistant", "content": "a"}, user("What?")]):
        status, told = await error(client, *said, model=model)
        assert (status, told["param"]) == (400, "messages")
        assert model in told["message"]
    status, told = await error(client, user(image(picture()), image(picture())), model=model)
    assert told["message"] == f"Model '{model}' takes at most one image at once, not 2."


async def test_a_document_of_too_many_pages_is_refused(serve):
    status, told = await error(serve(max_pages=1), user(image(pdf((), ()))))
    assert (status, told["message"]) == (400, "A document may have at most one page, not 2.")


async def test_images_that_are_too_many_pixels_together_are_refused(serve, runners):
    client = serve(max_image_pixels=100)
    first, answer = user(image(picture(8, 8))), {"role": "assistant", "content": "A cat."}
    status, told = await error(client, first, answer, user(image(picture(6, 7))))
    assert (status, told["message"][:60]) == (
        413,
        "The question's images have 106 pixels or more together; at m",
    )
    assert not runners[MODEL].requests
    assert (await ask(client, first, answer, user(image(picture(6, 6))))).status_code == 200


async def test_a_url_is_fetched_where_the_operator_allows_it(client, monkeypatch):
    shown = user({"type": "image_url", "image_url": {"url": "https://host/a.png"}})
    _, told = await error(client, shown)
    assert "CHATVLM_ALLOW_URLS" in told["message"]

    async def fetch(self, url):
        return picture(9, 9)

    monkeypatch.setattr("api.intake.fetching.Fetcher.fetch", fetch)
    assert (await ask(client, shown)).json()["choices"][0]["message"]["content"] == "9x9"


async def test_a_stream_is_chunks_of_one_completion(client, runners):
    pieces = [Piece(text="A "), Piece(text="cat."), ANSWER]
    runners[MODEL].stream = [*pieces]
    response = await ask(client, stream=True)
    assert response.headers.items() >= UNBUFFERED.items()
    assert response.headers["content-type"].startswith("text/event-stream")
    told = chunks(response.text)
    assert len({(chunk["id"], chunk["created"], chunk["model"]) for chunk in told}) == 1
    assert {chunk["object"] for chunk in told} == {"chat.completion.chunk"}
    choices = [choice for chunk in told for choice in chunk["choices"]]
    assert [choice["delta"] for choice in choices] == [
        {"role": "assistant", "content": ""},
        {"content": "A "},
        {"content": "cat."},
        {},
    ]
    assert [choice["finish_reason"] for choice in choices] == [None, None, None, "stop"]
    assert not any("usage" in chunk for chunk in told)


async def test_the_usage_comes_last_where_it_is_asked_for(client, runners):
    runners[MODEL].stream = [Piece(text="A "), ANSWER]
    response = await ask(client, stream=True, stream_options={"include_usage": True})
    *others, last = chunks(response.text)
    assert last["choices"] == []
    assert last["usage"] == {"prompt_tokens": 30, "completion_tokens": 3, "total_tokens": 33}
    assert {chunk["usage"] for chunk in others} == {None}


async def test_what_fails_in_the_middle_ends_the_stream_with_an_error(client, runners):
    late = Failure(code=ErrorCode.DEADLINE, detail="Time is up.")
    runners[MODEL].stream = [Piece(text="A "), late]
    response = await ask(client, stream=True)
    *_, last, end = response.text.split("\n\n")
    assert end == ""
    assert json.loads(last.removeprefix("data: "))["error"]["message"] == "Time is up."


async def test_the_models_are_those_that_can_run_here(client, runners):
    for model, runner in runners.items():
        if model != MODEL:
            runner.status = Status(state="unavailable", reason="No weights.")
    listed = (await client.get("/v1/models")).json()
    assert listed["object"] == "list"
    [card] = listed["data"]
    assert (card["id"], card["object"], card["owned_by"]) == (MODEL, "model", "chatvlmllm")
    assert isinstance(card["created"], int)
    assert (await client.get(f"/v1/models/{MODEL}")).json() == card
    unknown = await client.get("/v1/models/gpt-5")
    assert (unknown.status_code, unknown.json()["error"]["code"]) == (404, "model_not_found")
