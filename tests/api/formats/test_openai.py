import json
from collections.abc import AsyncIterator

import pytest

from api.formats.openai import CompletionFormat
from common.failures import ErrorCode, Failure, Refusal
from common.messages import Answer, Line, Piece

LINE = Line(text="a", box=(1, 2, 3, 4), confidence=0.5)
ANSWER = Answer(text="a", image_size=(4, 3), finish_reason="repetition", lines=[LINE])


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
