import asyncio

import pytest

from common.failures import ErrorCode, Failure
from common.messages import Answer, Piece, Usage
from tests.support.fakes.runner import picture
from tests.support.streams import UNBUFFERED, events

CHAT_FIELDS = ["response", "model", "processing_time", "prompt"]
ANSWER = Answer(text="A cat.", image_size=(4, 3), finish_reason="stop")
PIECES = [Piece(text="A "), Piece(text="cat."), ANSWER]


async def test_a_question_is_answered_with_the_fields_of_the_guide(client):
    response = await client.post(
        "/chat", files={"file": picture(5, 2)}, data={"prompt": "Что изображено?"}
    )
    assert response.status_code == 200
    answer = response.json()
    assert list(answer) == CHAT_FIELDS
    assert answer | {"processing_time": 0} == {
        "response": "5x2",
        "model": "reader",
        "processing_time": 0,
        "prompt": "Что изображено?",
    }
    assert isinstance(answer["processing_time"], float)


async def test_what_more_the_model_says_comes_after_the_fields_of_the_guide(client, runners):
    runners["got_ocr"].outcome = Answer(
        text="a",
        image_size=(4, 3),
        finish_reason="length",
        usage=Usage(prompt_tokens=3, visual_tokens=2, completion_tokens=1),
        prompt_used=False,
    )
    answer = (
        await client.post("/chat", files={"file": picture()}, params={"model": "got_ocr"})
    ).json()
    assert list(answer) == [*CHAT_FIELDS, "finish_reason", "usage", "prompt_used"]
    assert answer["prompt_used"] is False


@pytest.mark.parametrize(
    ("status", "sent"),
    [
        (400, {"files": {"file": b"text"}}),
        (400, {"files": {"file": picture()}, "data": {"temperature": "2"}}),
        (400, {"files": [("file", picture()), ("file", picture())]}),
        (404, {"files": {"file": picture()}, "data": {"model": "invalid_model"}}),
        (413, {"files": {"file": bytes(11 * 2**20)}}),
    ],
)
@pytest.mark.parametrize("stream", ["true", "false"])
async def test_what_cannot_be_answered_has_its_status_streamed_or_not(client, status, sent, stream):
    response = await client.post("/chat", params={"stream": stream}, **sent)
    assert response.status_code == status
    assert list(response.json()) == ["detail", "code"]


async def test_a_streamed_answer_comes_in_pieces_and_once_more_whole(client, runners):
    runners["reader"].stream = PIECES
    response = await client.post(
        "/chat", files={"file": picture()}, data={"stream": "true", "prompt": "What?"}
    )
    assert response.status_code == 200
    assert response.headers.items() >= UNBUFFERED.items()
    assert response.headers["content-type"].startswith("text/event-stream")
    *pieces, (name, answer) = events(response.text)
    assert pieces == [("piece", {"text": "A "}), ("piece", {"text": "cat."})]
    assert name == "answer"
    assert list(answer) == [*CHAT_FIELDS, "finish_reason"]
    assert (answer["response"], answer["model"]) == ("A cat.", "reader")
    assert (answer["prompt"], answer["finish_reason"]) == ("What?", "stop")
    [request] = runners["reader"].requests
    assert (request.images, request.question) == ([picture()], "What?")


@pytest.mark.parametrize("text", ["line\nbreak\r\n\r\nand data: more", "слово\u2028 \N{CAT} \x00"])
async def test_no_text_breaks_out_of_its_event(client, runners, text):
    runners["reader"].stream = [Piece(text=text), ANSWER]
    response = await client.post("/chat", files={"file": picture()}, params={"stream": "true"})
    assert events(response.text)[0] == ("piece", {"text": text})


async def test_what_fails_before_the_first_piece_has_its_own_status(client, runners):
    full = Failure(code=ErrorCode.QUEUE_FULL, detail="The queue is full.", retry_after=3)
    runners["reader"].stream = [full]
    response = await client.post("/chat", files={"file": picture()}, params={"stream": "true"})
    assert (response.status_code, response.json()["detail"]) == (503, "The queue is full.")
    assert response.headers["retry-after"] == "3"


async def test_what_fails_in_the_middle_ends_the_stream_with_an_error(client, runners):
    late = Failure(code=ErrorCode.DEADLINE, detail="Time is up.")
    runners["reader"].stream = [Piece(text="A "), late]
    response = await client.post("/chat", files={"file": picture()}, params={"stream": "true"})
    assert response.status_code == 200
    assert events(response.text) == [
        ("piece", {"text": "A "}),
        ("error", {"detail": "Time is up.", "code": "deadline"}),
    ]


async def test_a_stream_that_ends_without_its_answer_ends_with_an_error(client, runners):
    runners["reader"].stream = [Piece(text="A ")]
    response = await client.post("/chat", files={"file": picture()}, params={"stream": "true"})
    [_, (name, error)] = events(response.text)
    assert (name, list(error)) == ("error", ["detail", "code"])


async def test_a_reader_that_goes_stops_the_work_for_its_stream(serve, runners):
    runner = runners["reader"]
    runner.may_answer.clear()
    runner.stream = PIECES
    request = serve(request_timeout=600).post(
        "/chat", files={"file": picture()}, params={"stream": "true"}
    )
    task = asyncio.create_task(request)
    await asyncio.wait_for(runner.waiting.wait(), 10)
    task.cancel()
    await asyncio.wait_for(runner.stopped.wait(), 10)
