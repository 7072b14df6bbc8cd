"""Documents read by /ocr and /batch/ocr; their pages are told apart by their width."""

import asyncio

import pytest

from api.tasks.reading import PAGES_AT_ONCE
from common.failures import ErrorCode, Failure
from common.images import INCOMPLETE, decode
from common.messages import Answer, Usage
from tests.support.fakes.runner import Fails, data_url, picture
from tests.support.files.documents import layered, locked, pdf, wide_pages
from tests.support.pages import ENGLISH, render

GUIDE_FIELDS = ["text", "model", "processing_time", "image_size", "language"]


class Queue:
    """A queue before a fake runner: it takes `places` requests at once, and refuses more."""

    def __init__(self, runner, places: int) -> None:
        self.runner = runner
        self.answer, runner.answer = runner.answer, self.limited
        self.places = places
        self.now = self.refused = 0

    async def limited(self, request):
        if self.now == self.places:
            self.refused += 1
            return Failure(code=ErrorCode.QUEUE_FULL, detail="The queue is full.", retry_after=0)
        self.now += 1
        try:
            await asyncio.sleep(0.02)
            return await self.answer(request)
        finally:
            self.now -= 1


async def test_the_pages_of_a_document_are_joined_by_form_feeds_and_told_one_by_one(client):
    response = await client.post("/ocr", files={"file": wide_pages(5, 6, 7)})
    assert response.status_code == 200
    answer = response.json()
    assert list(answer) == [*GUIDE_FIELDS, "pages"]
    assert (answer["text"], answer["image_size"]) == ("5x1\f6x1\f7x1", [5, 1])
    assert [list(page) for page in answer["pages"]] == [
        ["number", "text", "processing_time", "image_size", "status"]
    ] * 3
    for number, page in enumerate(answer["pages"], 1):
        width = number + 4
        assert page | {"processing_time": 0} == {
            "number": number,
            "text": f"{width}x1",
            "processing_time": 0,
            "image_size": [width, 1],
            "status": "success",
        }


async def test_an_image_has_no_pages(client):
    assert list((await client.post("/ocr", files={"file": picture()})).json()) == GUIDE_FIELDS


async def test_a_document_of_one_page_has_one(client):
    answer = (await client.post("/ocr", files={"file": pdf(())})).json()
    assert (answer["text"], len(answer["pages"])) == ("1653x2339", 1)


async def test_what_more_the_model_says_stands_with_its_page(client, runners):
    usage = Usage(prompt_tokens=3, visual_tokens=2, completion_tokens=1)
    runners["reader"].outcome = Answer(text="a", image_size=(9, 9), usage=usage, warning="Hm.")
    answer = (await client.post("/ocr", files={"file": wide_pages(5, 6)})).json()
    assert list(answer) == [*GUIDE_FIELDS, "pages"]
    for page in answer["pages"]:
        assert page["usage"] == usage.model_dump()
        assert page["warning"] == "Hm."


async def test_a_page_of_a_pdf_whose_picture_is_cut_says_so(client):
    for cut, said in ((0, False), (2000, True)):
        file = layered(render(ENGLISH), (), cut=cut)
        (page,) = (await client.post("/ocr", files={"file": file})).json()["pages"]
        assert (page.get("warning") == INCOMPLETE) is said


async def test_pages_are_chosen(client, runners):
    answer = (
        await client.post("/ocr", files={"file": wide_pages(5, 6, 7, 8)}, params={"pages": "4,1-2"})
    ).json()
    assert [page["number"] for page in answer["pages"]] == [1, 2, 4]
    assert answer["text"] == "5x1\f6x1\f8x1"
    assert len(runners["reader"].requests) == 3


@pytest.mark.parametrize(
    ("data", "sent", "detail"),
    [
        (wide_pages(5, 6), {"pages": "3"}, "There is no page 3: the document has 2 pages."),
        (picture(), {"pages": "2"}, "There is no page 2: the document has one page."),
        (
            wide_pages(5, 6, 7),
            {},
            "A request takes at most 2 pages, and the document has 3: choose some with "
            "'pages', as in pages=1-2.",
        ),
        (locked(), {}, "The PDF is protected by a password: remove it and send the file again."),
        (pdf(), {}, "The PDF has no pages."),
        (pdf(None, None), {}, "Page 1 of the PDF is broken: it cannot be drawn."),
    ],
)
@pytest.mark.parametrize("route", ["/ocr", "/chat"])
async def test_a_document_that_cannot_be_read_is_told_why(serve, route, data, sent, detail):
    if route == "/chat" and "at most" in detail:
        sent = {"pages": "1-3"}
    response = await serve(max_pages=2).post(route, files={"file": data}, data=sent)
    assert (response.status_code, response.json()["detail"]) == (400, detail)


async def test_one_bad_page_fails_alone(client):
    answer = (await client.post("/ocr", files={"file": pdf((), None, ())})).json()
    assert answer["text"] == "1653x2339\f\f1653x2339"
    assert answer["pages"][1] == {
        "number": 2,
        "error": "Page 2 of the PDF is broken: it cannot be drawn.",
        "status": "error",
        "code": "bad_image",
    }
    assert [page["status"] for page in answer["pages"]] == ["success", "error", "success"]


async def test_the_size_is_that_of_the_first_page_that_was_read(client):
    answer = (await client.post("/ocr", files={"file": pdf(None, ())})).json()
    assert answer["image_size"] == [1653, 2339]


async def test_so_many_pages_of_a_request_are_read_side_by_side(client, runners):
    runner = runners["reader"]
    runner.may_answer.clear()
    pages = wide_pages(*range(1, 3 * PAGES_AT_ONCE))
    files = [("files", pages), ("files", pages)]
    reading = asyncio.create_task(client.post("/batch/ocr", files=files))
    await runner.has_got(PAGES_AT_ONCE)
    await asyncio.sleep(0.1)
    assert len(runner.requests) == PAGES_AT_ONCE
    runner.may_answer.set()
    assert (await reading).json()["successful"] == 2


async def test_a_page_that_finds_the_queue_full_waits_for_its_place(client, runners):
    queue = Queue(runners["reader"], 2)
    answer = (await client.post("/ocr", files={"file": wide_pages(*range(1, 7))})).json()
    assert queue.refused
    assert answer["text"] == "1x1\f2x1\f3x1\f4x1\f5x1\f6x1"


async def test_a_document_that_finds_the_queue_full_is_refused(client, runners):
    Queue(runners["reader"], 0)
    response = await client.post("/ocr", files={"file": wide_pages(5, 6, 7)})
    assert (response.status_code, response.json()["detail"]) == (503, "The queue is full.")


async def test_past_the_time_limit_the_pages_that_were_read_are_answered(serve, runners):
    late = Failure(code=ErrorCode.DEADLINE, detail="The time limit passed in the queue.")

    async def answer(request):
        if decode(request.images[0]).width == 7:
            return late
        return await original(request)

    original, runners["reader"].answer = runners["reader"].answer, answer
    read = (await serve().post("/ocr", files={"file": wide_pages(5, 6, 7)})).json()
    assert [page["status"] for page in read["pages"]] == ["success", "success", "error"]
    assert read["pages"][2]["error"] == late.detail


async def test_a_document_whose_pages_all_come_too_late_is_a_timeout(client, runners):
    runners["reader"].outcome = Failure(code=ErrorCode.DEADLINE, detail="Time is up.")
    response = await client.post("/ocr", files={"file": wide_pages(5, 6)})
    assert (response.status_code, response.json()["detail"]) == (504, "Time is up.")


async def test_a_fault_at_one_page_is_a_fault(client, runners):
    runners["reader"].outcome = Fails()
    response = await client.post("/ocr", files={"file": wide_pages(5, 6)})
    assert response.status_code == 500


async def test_a_batch_takes_documents_and_images(client):
    contents = {"a.tif": wide_pages(5, 6), "b.png": picture(), "c.png": b"?"}
    files = [("files", file) for file in contents.items()]
    batch = (await client.post("/batch/ocr", files=files, data={"pages": "1"})).json()
    document, image, bad = batch["results"]
    assert (document["text"], len(document["pages"])) == ("5x1", 1)
    assert (image["text"], "pages" in image) == ("4x3", False)
    assert bad["status"] == "error"


async def test_a_client_that_goes_leaves_no_work_behind(client, runners):
    runner = runners["reader"]
    runner.may_answer.clear()
    task = asyncio.create_task(client.post("/ocr", files={"file": wide_pages(5, 6)}))
    await runner.has_got(2)
    task.cancel()
    await asyncio.wait_for(runner.stopped.wait(), 10)


@pytest.mark.parametrize("place", ["data", "params"])
@pytest.mark.parametrize("model", ["reader", "qwen3_vl_2b"])
async def test_a_sound_text_layer_needs_no_model(client, runners, model, place):
    sent = {place: {"text_layer": "auto", "model": model}}
    answer = (await client.post("/ocr", files={"file": pdf(ENGLISH[:1], ())}, **sent)).json()
    assert answer["text"] == f"{ENGLISH[0]}\f1653x2339"
    taken, read = answer["pages"]
    assert (taken["source"], read["source"]) == ("text_layer", "image")
    assert (taken["image_size"], taken["finish_reason"]) == ([1653, 2339], "stop")
    assert [line["text"] for line in taken["lines"]] == [ENGLISH[0]]
    assert len(runners[model].requests) == 1


async def test_without_a_word_on_it_every_page_is_read(client, runners):
    for sent in ({}, {"text_layer": "never"}):
        answer = await client.post("/ocr", files={"file": pdf(ENGLISH)}, data=sent)
        assert answer.json()["text"] == "1653x2339"
        assert "source" not in answer.json()["pages"][0]


async def test_text_layers_may_be_asked_for_in_json_and_for_a_batch(client):
    document = pdf(ENGLISH[:1])
    url = data_url(document, "application/pdf")
    asked = await client.post("/ocr", json={"image": url, "text_layer": "auto"})
    assert asked.json()["text"] == ENGLISH[0]
    files = [("files", document), ("files", picture())]
    batch = (await client.post("/batch/ocr", files=files, data={"text_layer": "auto"})).json()
    assert [result["text"] for result in batch["results"]] == [ENGLISH[0], "4x3"]
    assert batch["results"][1]["source"] == "image"


async def test_an_option_asks_for_more_than_a_text_layer_has(client):
    sent = {"text_layer": "auto", "mode": "layout"}
    answer = (await client.post("/ocr", files={"file": pdf(ENGLISH)}, data=sent)).json()
    assert (answer["text"], answer["pages"][0]["source"]) == ("1653x2339", "image")


async def test_another_choice_of_text_layer_is_refused(client):
    response = await client.post("/ocr", files={"file": pdf(())}, data={"text_layer": "always"})
    assert response.status_code == 400
    assert "'text_layer'" in response.json()["detail"]
