from common.messages import Image, Turn
from tests.support.fakes.runner import data_url, picture
from tests.support.files.documents import pdf
from tests.support.pages import ENGLISH
from tests.support.sent.completions import ANSWER, MODEL, ask, error, image, text, user


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
    assert (request.n, request.logprobs) == (1, None)


async def test_the_runner_gets_penalties_and_all_else_that_chooses_tokens(client, runners):
    runners[MODEL].outcome = ANSWER
    sent = {
        "min_p": 0.1,
        "repetition_penalty": 1.1,
        "frequency_penalty": 0.5,
        "presence_penalty": -0.5,
        "min_tokens": 3,
        "n": 2,
    }
    await ask(client, **sent, top_k=-1, logprobs=True, top_logprobs=4)
    await ask(client, logprobs=True, top_k=7)
    await ask(client)
    first, second, plain = runners[MODEL].requests
    assert first.model_dump().items() >= {**sent, "top_k": 0, "logprobs": 4}.items()
    assert (second.logprobs, second.top_k, second.n) == (0, 7, 1)
    assert {plain.model_dump()[name] for name in sent if name != "n"} == {None}


async def test_without_a_word_on_it_the_defaults_hold(client, runners):
    runners[MODEL].outcome = ANSWER
    await ask(client, max_tokens=None)
    [request] = runners[MODEL].requests
    assert (request.temperature, request.top_p, request.seed) == (None, None, None)
    assert (request.stop, request.max_tokens) == ((), 2048)


async def test_a_model_may_take_a_conversation_about_one_image(client, runners):
    runners["dots_ocr"].outcome = ANSWER
    said = [
        {"role": "system", "content": "Be brief."},
        user(image(picture()), text("Read.")),
        {"role": "assistant", "content": "a"},
        user("Sure?"),
    ]
    assert (await ask(client, *said, model="dots_ocr")).status_code == 200
    assert [turn.role for turn in runners["dots_ocr"].requests[0].turns] == [
        "system",
        "user",
        "assistant",
        "user",
    ]
    status, told = await error(client, said[1], *said[1:], model="dots_ocr")
    assert told["message"] == "Model 'dots_ocr' takes at most one image at once, not 2."
    assert status == 400


async def test_a_model_that_takes_one_question_about_one_image_gets_no_more(client, runners):
    model = "got_ocr"
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
    assert (status, told["message"]) == (
        400,
        "A request takes at most one page, and the document has 2.",
    )


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


async def test_the_reader_gets_sound_text_layers_if_they_are_wanted(client, runners):
    said = user(image(pdf(ENGLISH[:1])), text("Read."))
    completion = await ask(client, said, model="reader", text_layer="auto")
    [request] = runners["reader"].requests
    assert request.shown[0].text.text == ENGLISH[0]
    assert completion.json()["source"] == "image"  # unless the model says otherwise
