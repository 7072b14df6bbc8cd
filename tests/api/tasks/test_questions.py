import pytest
from PIL import Image

from common.images import decode
from tests.support.fakes.runner import picture
from tests.support.files.documents import pdf, tiff, wide_pages
from tests.support.pages import ENGLISH


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
    [request] = runners["reader"].requests
    assert (request.question, request.temperature, request.max_tokens) == (
        "Describe this image",
        None,
        512,
    )


async def test_a_question_is_about_the_first_page_of_a_document(client):
    answer = (await client.post("/chat", files={"file": wide_pages(5, 6)})).json()
    assert answer["response"] == "5x1"
    assert answer["warning"] == "Only page 1 of 2 was shown: choose with 'pages'."


@pytest.mark.parametrize("model", ["qwen3_vl_2b", "reader"])
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
    assert (response.status_code, response.json()["detail"]) == (
        400,
        f"Model '{model}' takes at most one image at once, not 2.",
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
    assert not runners["reader"].requests
    sent["data"]["pages"] = "1-2"
    assert (await client.post("/chat", **sent)).json()["response"] == "20x30 20x30"


async def test_the_reader_gets_sound_text_layers_if_they_are_wanted(client, runners):
    sent = {"files": {"file": pdf(ENGLISH[:1], ())}, "data": {"pages": "1-2", "text_layer": "auto"}}
    await client.post("/chat", **sent)
    [request] = runners["reader"].requests
    first, second = request.shown
    assert request.says_source
    assert (first.text.text, second.text) == (ENGLISH[0], None)
    assert first.text.size == decode(first.data).size


async def test_a_vision_language_model_looks_at_the_image(client, runners):
    sent = {"model": "qwen3_vl_2b", "text_layer": "auto"}
    answer = (await client.post("/chat", files={"file": pdf(ENGLISH)}, data=sent)).json()
    assert (answer["response"], answer["source"]) == ("1653x2339", "image")
    assert runners["qwen3_vl_2b"].requests[0].shown[0].text is None


async def test_without_a_word_on_it_no_question_has_text_layers(client, runners):
    answer = (await client.post("/chat", files={"file": pdf(ENGLISH)})).json()
    [request] = runners["reader"].requests
    assert (request.shown[0].text, request.says_source) == (None, False)
    assert "source" not in answer
