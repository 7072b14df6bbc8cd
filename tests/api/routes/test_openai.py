import json

import pytest

from common.failures import ErrorCode, Failure
from common.messages import ChosenToken, Line, Piece, Status, TokenLogprob
from tests.support.fakes.runner import Fails, picture
from tests.support.sent.completions import ANSWER, MODEL, ask, error, image, text, user
from tests.support.streams import UNBUFFERED


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
    runners["reader"].outcome = ANSWER.model_copy(update={"lines": [line], "prompt_used": True})
    completion = (await ask(client, user(image(picture())), model="tesseract")).json()
    assert completion["model"] == "tesseract"
    assert completion["lines"] == [line.model_dump(mode="json")]
    assert completion["prompt_used"] is True


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(
    ("failure", "status"),
    [
        (Failure(code=ErrorCode.QUEUE_FULL, detail="The queue is full.", retry_after=3), 503),
        (Failure(code=ErrorCode.DEADLINE, detail="Time is up."), 504),
        (Failure(code=ErrorCode.BAD_PARAMETER, detail="Too long."), 400),
    ],
)
async def test_a_failure_is_openais_error(client, runners, stream, failure, status):
    runners[MODEL].outcome = failure
    response = await ask(client, stream=stream)
    kind = "server_error" if status >= 500 else "invalid_request_error"
    assert response.status_code == status
    assert response.json() == {
        "error": {
            "message": failure.detail,
            "type": kind,
            "param": None,
            "code": failure.code.value,
        }
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


TOKEN = ChosenToken(
    data="ж".encode()[:1],
    logprob=-0.5,
    likeliest=(TokenLogprob(data=b"A", logprob=-0.25),),
)
TOLD = {
    "content": [
        {
            "token": "\ufffd",
            "logprob": -0.5,
            "bytes": [208],
            "top_logprobs": [{"token": "A", "logprob": -0.25, "bytes": [65]}],
        }
    ],
    "refusal": None,
}
SEVERAL = ANSWER.model_copy(
    update={
        "tokens": (TOKEN,),
        "others": (
            ANSWER.model_copy(update={"text": "A dog.", "finish_reason": "repetition"}),
            ANSWER.model_copy(update={"finish_reason": "length"}),
        ),
    }
)


async def test_several_answers_are_choices_and_their_tokens_are_counted_together(client, runners):
    runners[MODEL].outcome = SEVERAL
    completion = (await ask(client, n=3, logprobs=True, top_logprobs=1)).json()
    choices = completion["choices"]
    assert [choice["index"] for choice in choices] == [0, 1, 2]
    assert [choice["message"]["content"] for choice in choices] == ["A cat.", "A dog.", "A cat."]
    assert [choice["finish_reason"] for choice in choices] == ["stop", "length", "length"]
    assert [choice["logprobs"] for choice in choices] == [TOLD, None, None]
    assert completion["usage"]["prompt_tokens"] == 30
    assert completion["usage"]["completion_tokens"] == 9
    assert "repetition" in completion["warning"]


async def test_several_answers_are_streamed_by_their_index(client, runners):
    pieces = [
        Piece(text="A dog.", index=1),
        Piece(text="A cat.", tokens=(TOKEN,)),
        Piece(text="A cat.", index=2),
    ]
    runners[MODEL].stream = [*pieces, SEVERAL]
    response = await ask(client, n=3, stream=True)
    told = [chunk["choices"][0] for chunk in chunks(response.text)]
    start = {"role": "assistant", "content": ""}
    assert [(choice["index"], choice["delta"]) for choice in told] == [
        *((index, start) for index in range(3)),
        (1, {"content": "A dog."}),
        (0, {"content": "A cat."}),
        (2, {"content": "A cat."}),
        *((index, {}) for index in range(3)),
    ]
    assert [choice["finish_reason"] for choice in told[-3:]] == ["stop", "length", "length"]
    assert [choice["logprobs"] for choice in told[3:6]] == [None, TOLD, None]


@pytest.mark.parametrize(("field", "value"), [("n", 2), ("logprobs", True)])
async def test_the_embedded_reader_refuses_what_it_cannot_do_by_name(client, field, value):
    asked = user(text("What?"), image(picture()))
    status, told = await error(client, asked, model="reader", **{field: value})
    assert (status, told["param"]) == (400, field)
    assert "reader" in told["message"]


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
    assert (await client.get("/v1/models/tesseract")).json()["id"] == "tesseract"
    unknown = await client.get("/v1/models/gpt-5")
    assert (unknown.status_code, unknown.json()["error"]["code"]) == (404, "model_not_found")
