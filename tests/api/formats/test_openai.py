import json
from collections.abc import AsyncIterator

import pytest

from api.formats.openai import CompletionFormat
from common.failures import ErrorCode, Failure, Refusal
from common.messages import Answer, CallPiece, Line, Piece, ToolCall

LINE = Line(text="a", box=(1, 2, 3, 4), confidence=0.5)
ANSWER = Answer(text="a", image_size=(4, 3), finish_reason="repetition", lines=[LINE])

CALLS = (
    ToolCall(name="weather", arguments='{"city": "Kazan"}'),
    ToolCall(name="time", arguments="{}"),
)


async def told(*outcomes: Piece | Answer | Failure) -> list:
    """The data of each event of a stream of these outcomes."""

    async def stream() -> AsyncIterator[Piece | Answer]:
        for outcome in outcomes:
            if isinstance(outcome, Failure):
                raise Refusal.of(outcome)
            yield outcome

    events = CompletionFormat("got_ocr", include_usage=False).events(stream())
    data = [event.decode().removeprefix("data: ").strip() async for event in events]
    return [entry if entry == "[DONE]" else json.loads(entry) for entry in data]


def test_a_completion_has_openais_fields_first():
    completion = CompletionFormat("got_ocr", include_usage=False).completion(ANSWER)
    dumped = completion.model_dump(mode="json")
    assert list(dumped) == [
        "id",
        "object",
        "created",
        "model",
        "choices",
        "usage",
        "lines",
        "warning",
    ]
    assert dumped["usage"] is None
    assert dumped["choices"][0]["finish_reason"] == "length"


@pytest.mark.parametrize(
    ("reason", "word"),
    [("stop", None), ("length", None), ("repetition", "repetition"), ("deadline", "time limit")],
)
async def test_a_warning_says_why_an_answer_was_cut_off(reason, word):
    answer = ANSWER.model_copy(update={"finish_reason": reason, "warning": "No box was read."})
    whole = CompletionFormat("got_ocr", include_usage=False).completion(answer).warning
    *_, last, _ = await told(Piece(text="a"), answer)
    assert last["warning"] == whole
    assert whole.startswith("No box was read.")
    assert ("cut off" in whole) is (word is not None)
    assert word is None or word in whole


async def test_what_more_the_model_says_is_in_the_chunk_that_ends_the_answer():
    *_, last, done = await told(Piece(text="a"), ANSWER)
    assert done == "[DONE]"
    assert last["choices"][0]["finish_reason"] == "length"
    assert last["lines"] == [LINE.model_dump(mode="json")]


@pytest.mark.parametrize(
    ("code", "kind", "word"),
    [
        (ErrorCode.UNKNOWN_MODEL, "invalid_request_error", "model_not_found"),
        (ErrorCode.DEADLINE, "server_error", "deadline"),
    ],
)
async def test_an_error_ends_a_stream_without_done(code, kind, word):
    *_, last = await told(Piece(text="a"), Failure(code=code, detail="Too bad."))
    error = {"message": "Too bad.", "type": kind, "param": None, "code": word}
    assert last == {"error": error}


def test_function_calls_are_openais():
    answer = Answer(text="", image_size=(0, 0), finish_reason="stop", calls=CALLS)
    completion = CompletionFormat("qwen3_vl_2b", include_usage=False).completion(answer)
    [choice] = completion.model_dump(mode="json")["choices"]
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"]["content"] is None
    first, second = choice["message"]["tool_calls"]
    assert first["type"] == "function"
    assert first["function"] == {"name": "weather", "arguments": '{"city": "Kazan"}'}
    assert len({first["id"], second["id"]}) == 2


def test_an_answer_without_calls_has_no_field_for_them():
    completion = CompletionFormat("qwen3_vl_2b", include_usage=False).completion(ANSWER)
    assert "tool_calls" not in completion.model_dump(mode="json")["choices"][0]["message"]


async def test_function_calls_are_streamed_as_openai_streams_them():
    answer = Answer(text="Well.", image_size=(0, 0), finish_reason="stop", calls=CALLS)
    _, *chunks, last, done = await told(
        Piece(text="Well."),
        Piece(text="", call=CallPiece(number=0, name="weather")),
        Piece(text="", call=CallPiece(number=0, arguments='{"city": ')),
        Piece(text="", call=CallPiece(number=0, arguments='"Kazan"}')),
        Piece(text="", call=CallPiece(number=1, name="time")),
        Piece(text="", call=CallPiece(number=1, arguments="{}")),
        answer,
    )
    said, begun, more, rest, second, _ = [chunk["choices"][0]["delta"] for chunk in chunks]
    assert said == {"content": "Well."}
    [call] = begun["tool_calls"]
    assert call == {
        "index": 0,
        "id": call["id"],
        "type": "function",
        "function": {"name": "weather", "arguments": ""},
    }
    assert more == {"tool_calls": [{"index": 0, "function": {"arguments": '{"city": '}}]}
    assert rest == {"tool_calls": [{"index": 0, "function": {"arguments": '"Kazan"}'}}]}
    assert second["tool_calls"][0]["index"] == 1
    assert second["tool_calls"][0]["id"] != call["id"]
    assert last["choices"][0]["finish_reason"] == "tool_calls"
    assert done == "[DONE]"


def test_a_call_that_was_cut_off_says_length():
    answer = Answer(text="", image_size=(0, 0), finish_reason="length", calls=CALLS[:1])
    completion = CompletionFormat("qwen3_vl_2b", include_usage=False).completion(answer)
    assert completion.choices[0].finish_reason == "length"


@pytest.mark.parametrize("text", ['{"city": "Ka', "{", ""])
def test_a_call_that_a_stop_text_cut_off_says_stop(text):
    calls = (CALLS[1], ToolCall(name="weather", arguments=text))
    answer = Answer(text="", image_size=(1, 1), finish_reason="stop", calls=calls)
    [choice] = CompletionFormat("m", False).completion(answer).choices
    assert choice.finish_reason == "stop"
