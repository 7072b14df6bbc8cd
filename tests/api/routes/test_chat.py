import asyncio

import pytest
from PIL import Image

from common.failures import ErrorCode, Failure
from common.messages import Answer, Piece, Usage
from tests.support.documents import pdf, tiff, wide_pages
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
        "model": "tesseract",
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


@pytest.mark.parametrize("place", ["data", "params"])
async def test_the_runner_gets_what_was_asked(client, runners, place):
    sent = {"model": "qwen3_vl_2b", "prompt": "Why?", "temperature": "0.2", "max_tokens": "77"}
    await client.post("/chat", files={"file": picture()}, **{place: sent})
    [request] = runners["qwen3_vl_2b"].requests
    assert (request.task, request.question) == ("chat", "Why?")
    assert (request.temperature, request.max_tokens) == (0.2, 77)
    assert request.images == [picture()]


async def test_the_defaults_are_those_of_the_contract(client, runners):
    answer = (await client.post("/chat", files={"file": picture()})).json()
    assert answer["prompt"] == "Describe this image"
    [request] = runners["tesseract"].requests
    assert (request.question, request.temperature, request.max_tokens) == (
        "Describe this image",
        0.7,
        512,
    )


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
    assert list(response.json()) == ["detail"]


async def test_a_question_is_about_the_first_page_of_a_wide_pages(client):
    answer = (await client.post("/chat", files={"file": wide_pages(5, 6)})).json()
    assert answer["response"] == "5x1"
    assert answer["warning"] == "Only page 1 of 2 was shown: choose with 'pages'."


@pytest.mark.parametrize("model", ["qwen3_vl_2b", "tesseract"])
async def test_or_about_several_where_the_model_takes_them(client, runners, model):
    response = await client.post(
        "/chat",
        files={"file": wide_pages(5, 6, 7)},
        data={"model": model, "pages": "2-3", "prompt": "Which?"},
    )
    assert response.json()["response"] == "6x1 7x1"
    assert "warning" not in response.json()
    [request] = runners[model].requests
    assert request.question == "Which?"


@pytest.mark.parametrize("model", ["got_ocr", "dots_ocr"])
async def test_a_model_that_takes_one_image_is_not_sent_two(client, runners, model):
    response = await client.post(
        "/chat", files={"file": wide_pages(5, 6)}, data={"model": model, "pages": "1-2"}
    )
    assert (response.status_code, response.json()) == (
        400,
        {"detail": f"Model '{model}' takes at most one image at once, not 2."},
    )
    assert not runners[model].requests


async def test_the_pages_of_a_question_are_drawn_so_that_they_fit_together(serve):
    sent = {"files": {"file": pdf((), (), (), size=(9000, 9000))}, "data": {"pages": "1-3"}}
    answer = (await serve(max_image_pixels=30_000).post("/chat", **sent)).json()
    assert answer["response"] == "99x99 99x99 99x99"


async def test_a_question_whose_pages_do_not_fit_together_is_refused(serve, runners):
    sent = {"files": {"file": tiff(*[Image.new("1", (20, 30))] * 3)}, "data": {"pages": "1-3"}}
    client = serve(max_image_pixels=1200)
    response = await client.post("/chat", **sent)
    assert response.status_code == 413
    assert response.json()["detail"] == (
        "The question's images have 1800 pixels or more together; at most 1200 are read: send "
        "fewer or smaller ones."
    )
    assert not runners["tesseract"].requests
    sent["data"]["pages"] = "1-2"
    assert (await client.post("/chat", **sent)).json()["response"] == "20x30 20x30"


async def test_a_streamed_answer_comes_in_pieces_and_once_more_whole(client, runners):
    runners["tesseract"].stream = PIECES
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
    assert (answer["response"], answer["model"]) == ("A cat.", "tesseract")
    assert (answer["prompt"], answer["finish_reason"]) == ("What?", "stop")
    [request] = runners["tesseract"].requests
    assert (request.images, request.question) == ([picture()], "What?")


@pytest.mark.parametrize("text", ["line\nbreak\r\n\r\nand data: more", "слово\u2028 \N{CAT} \x00"])
async def test_no_text_breaks_out_of_its_event(client, runners, text):
    runners["tesseract"].stream = [Piece(text=text), ANSWER]
    response = await client.post("/chat", files={"file": picture()}, params={"stream": "true"})
    assert events(response.text)[0] == ("piece", {"text": text})


async def test_what_fails_before_the_first_piece_has_its_own_status(client, runners):
    full = Failure(code=ErrorCode.QUEUE_FULL, detail="The queue is full.", retry_after=3)
    runners["tesseract"].stream = [full]
    response = await client.post("/chat", files={"file": picture()}, params={"stream": "true"})
    assert (response.status_code, response.json()) == (503, {"detail": "The queue is full."})
    assert response.headers["retry-after"] == "3"


async def test_what_fails_in_the_middle_ends_the_stream_with_an_error(client, runners):
    late = Failure(code=ErrorCode.DEADLINE, detail="Time is up.")
    runners["tesseract"].stream = [Piece(text="A "), late]
    response = await client.post("/chat", files={"file": picture()}, params={"stream": "true"})
    assert response.status_code == 200
    assert events(response.text) == [
        ("piece", {"text": "A "}),
        ("error", {"detail": "Time is up."}),
    ]


async def test_a_stream_that_ends_without_its_answer_ends_with_an_error(client, runners):
    runners["tesseract"].stream = [Piece(text="A ")]
    response = await client.post("/chat", files={"file": picture()}, params={"stream": "true"})
    [_, (name, error)] = events(response.text)
    assert (name, list(error)) == ("error", ["detail"])


async def test_a_reader_that_goes_stops_the_work_for_its_stream(serve, runners):
    runner = runners["tesseract"]
    runner.may_answer.clear()
    runner.stream = PIECES
    request = serve(request_timeout=600).post(
        "/chat", files={"file": picture()}, params={"stream": "true"}
    )
    task = asyncio.create_task(request)
    await asyncio.wait_for(runner.waiting.wait(), 10)
    task.cancel()
    await asyncio.wait_for(runner.stopped.wait(), 10)
