"""The official `openai` client before a real server."""

import base64
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from openai import OpenAI

from tests.support.files.documents import pdf
from tests.support.pages import ENGLISH, encode, render
from tests.support.server import RAMBLING, SAYS, Server
from tests.support.watching import at_rest, busy, until

MODEL = "qwen3_vl_2b"
PAGE = encode(render(ENGLISH))
BLANK = encode(render(()))


def connected(server: Server) -> Iterator[OpenAI]:
    with OpenAI(
        base_url=f"{server.client.base_url}/v1",
        api_key="none is needed",
        max_retries=0,
        _strict_response_validation=True,
    ) as client:
        yield client


@pytest.fixture
def models(fleet: Server) -> Iterator[OpenAI]:
    yield from connected(fleet)


@pytest.fixture
def read_only(reader: Server) -> Iterator[OpenAI]:
    yield from connected(reader)


def shown(data: bytes, kind: str = "image/png") -> Any:
    url = f"data:{kind};base64,{base64.b64encode(data).decode()}"
    return {"type": "image_url", "image_url": {"url": url}}


def said(words: str) -> Any:
    return {"type": "text", "text": words}


def user(*parts: Any) -> Any:
    return {"role": "user", "content": list(parts)}


@pytest.mark.parametrize("model", ["qwen_vl_2b", MODEL, "got_ocr", "dots_ocr"])
def test_each_model_answers_by_its_name(model: str, models: OpenAI) -> None:
    asked = [user(shown(PAGE), said("Read."))]
    completion = models.chat.completions.create(model=model, messages=asked)
    [choice] = completion.choices
    assert completion.model == model
    assert choice.message.content == SAYS[model]
    assert choice.finish_reason == "stop"
    usage = completion.usage
    assert usage is not None
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens


def test_a_conversation_with_several_images_is_gone_on_with(models: OpenAI) -> None:
    turns: list[Any] = [
        {"role": "system", "content": "Be brief."},
        user(said("This"), shown(PAGE), said("or"), shown(BLANK), said("?")),
    ]
    answer = models.chat.completions.create(model=MODEL, messages=turns)
    turns += [answer.choices[0].message, user(said("Sure?"))]
    longer = models.chat.completions.create(model=MODEL, messages=turns)
    assert longer.choices[0].message.content == SAYS[MODEL]
    assert longer.usage is not None
    assert answer.usage is not None
    assert longer.usage.prompt_tokens > answer.usage.prompt_tokens
    alone = models.chat.completions.create(model=MODEL, messages=[user(said("Hello"))])
    assert alone.choices[0].message.content == SAYS[MODEL]


def test_the_answer_is_cut_at_max_tokens_and_at_a_stop_text(models: OpenAI) -> None:
    asked = [user(shown(PAGE))]
    words = SAYS[MODEL].split()
    whole = models.chat.completions.create(model=MODEL, messages=asked)
    cut = models.chat.completions.create(model=MODEL, messages=asked, max_completion_tokens=2)
    beginning = cut.choices[0].message.content
    assert beginning
    assert SAYS[MODEL].startswith(beginning)
    assert cut.choices[0].finish_reason == "length"
    assert cut.usage is not None
    assert whole.usage is not None
    assert cut.usage.completion_tokens == 2 < whole.usage.completion_tokens
    stopped = models.chat.completions.create(model=MODEL, messages=asked, stop=[f" {words[3]}"])
    assert stopped.choices[0].message.content == " ".join(words[:3])
    assert stopped.choices[0].finish_reason == "stop"


def test_equal_seeds_give_equal_texts(models: OpenAI) -> None:
    def drawn(seed: int) -> str | None:
        completion = models.chat.completions.create(
            model=RAMBLING,
            messages=[user(shown(PAGE), said("Go on."))],
            max_tokens=20,
            temperature=1.5,
            top_p=0.9,
            seed=seed,
        )
        return completion.choices[0].message.content

    assert drawn(1) == drawn(1) != drawn(2)


def test_a_stream_is_the_answer_in_pieces(models: OpenAI) -> None:
    asked = [user(shown(PAGE), said("Read."))]
    whole = models.chat.completions.create(model=MODEL, messages=asked)
    stream = models.chat.completions.create(
        model=MODEL, messages=asked, stream=True, stream_options={"include_usage": True}
    )
    *chunks, last = stream
    deltas = [chunk.choices[0].delta.content or "" for chunk in chunks]
    assert "".join(deltas) == SAYS[MODEL]
    assert len(deltas) > 3
    assert [chunk.choices[0].finish_reason for chunk in chunks][-2:] == [None, "stop"]
    assert last.choices == []
    assert last.usage == whole.usage


def test_a_stream_that_is_closed_in_the_middle_frees_its_row(models: OpenAI, fleet: Server) -> None:
    stream = models.chat.completions.create(
        model=RAMBLING,
        messages=[user(shown(PAGE))],
        max_tokens=4096,
        temperature=0,
        stream=True,
    )
    next(stream)
    until(lambda: busy(fleet, RAMBLING) == 1)
    stream.close()
    until(lambda: busy(fleet, RAMBLING) == 0)
    until(lambda: at_rest(fleet.runners(RAMBLING)))


def test_a_client_that_goes_away_frees_its_row(models: OpenAI, fleet: Server) -> None:
    with pytest.raises(openai.APITimeoutError):
        models.chat.completions.create(
            model=RAMBLING,
            messages=[user(shown(PAGE))],
            max_tokens=4096,
            temperature=0,
            timeout=1,
        )
    until(lambda: busy(fleet, RAMBLING) == 0)


def test_several_answers_come_whole_and_in_a_stream(models: OpenAI) -> None:
    asked: dict[str, Any] = {
        "model": RAMBLING,
        "messages": [user(shown(PAGE), said("Go on."))],
        "max_tokens": 12,
        "temperature": 1.2,
        "seed": 4,
        "n": 3,
    }
    whole = models.chat.completions.create(**asked)
    texts = [choice.message.content for choice in whole.choices]
    assert [choice.index for choice in whole.choices] == [0, 1, 2]
    assert len(set(texts)) == 3
    assert whole.usage is not None
    assert 12 < whole.usage.completion_tokens <= 36
    streamed = ["", "", ""]
    options = {"include_usage": True}
    for chunk in models.chat.completions.create(**asked, stream=True, stream_options=options):
        for choice in chunk.choices:
            streamed[choice.index] += choice.delta.content or ""
        usage = chunk.usage
    assert streamed == texts
    assert usage == whole.usage


def test_the_log_probabilities_of_an_answer_are_those_of_its_tokens(models: OpenAI) -> None:
    asked: dict[str, Any] = {
        "model": MODEL,
        "messages": [user(shown(PAGE), said("Read."))],
        "temperature": 0,
        "logprobs": True,
        "top_logprobs": 2,
    }
    whole = models.chat.completions.create(**asked)
    [choice] = whole.choices
    assert choice.logprobs is not None
    tokens = choice.logprobs.content or []
    assert "".join(token.token for token in tokens).strip() == SAYS[MODEL]
    assert whole.usage is not None
    assert len(tokens) == whole.usage.completion_tokens
    for token in tokens:
        assert bytes(token.bytes or ()).decode() == token.token
        assert token.top_logprobs[0].token == token.token
        assert 0 >= token.logprob == token.top_logprobs[0].logprob
        assert token.logprob >= token.top_logprobs[1].logprob
    streamed = [
        token.token
        for chunk in models.chat.completions.create(**asked, stream=True)
        if (told := chunk.choices[0].logprobs)
        for token in told.content or []
    ]
    assert streamed == [token.token for token in tokens]


@pytest.mark.parametrize(
    "more",
    [
        {"frequency_penalty": 2.0},
        {"presence_penalty": 2.0},
        {"extra_body": {"repetition_penalty": 5.0}},
        {"extra_body": {"min_tokens": 30}},
    ],
)
def test_what_was_said_becomes_less_likely_and_an_end_impossible(
    models: OpenAI, more: dict[str, Any]
) -> None:
    asked = [user(shown(PAGE), said("Read."))]
    model = MODEL if "min_tokens" in str(more) else RAMBLING

    def answer(**more: Any) -> Any:
        return models.chat.completions.create(
            model=model, messages=asked, temperature=0, max_tokens=60, **more
        )

    plain, changed = answer(), answer(**more)
    assert changed.choices[0].message.content != plain.choices[0].message.content
    assert changed.usage.completion_tokens >= 30


def test_a_token_is_drawn_from_the_likeliest_ones(models: OpenAI) -> None:
    def answer(**more: Any) -> str | None:
        completion = models.chat.completions.create(
            model=RAMBLING, messages=[user(shown(PAGE))], max_tokens=20, **more
        )
        return completion.choices[0].message.content

    greedy = answer(temperature=0)
    assert answer(temperature=2, seed=1, extra_body={"top_k": 1}) == greedy
    assert answer(temperature=2, seed=1, extra_body={"min_p": 1.0}) == greedy
    assert answer(temperature=2, seed=1) != greedy


def test_what_is_not_served_is_refused_by_name(models: OpenAI, read_only: OpenAI) -> None:
    asked = [user(said("Hello"))]
    with pytest.raises(openai.BadRequestError) as refused:
        models.chat.completions.create(model=MODEL, messages=asked, n=17)
    assert (refused.value.param, refused.value.type) == ("n", "invalid_request_error")
    assert "'n'" in refused.value.message
    with pytest.raises(openai.BadRequestError) as refused:
        models.chat.completions.create(model=MODEL, messages=asked, logit_bias={"5": -100})
    assert refused.value.param == "logit_bias"
    page = [user(shown(PAGE), said("Read the text"))]
    with pytest.raises(openai.BadRequestError) as refused:
        read_only.chat.completions.create(model="reader", messages=page, logprobs=True)
    assert refused.value.param == "logprobs"
    with pytest.raises(openai.NotFoundError) as unknown:
        models.chat.completions.create(model="gpt-5", messages=asked)
    assert unknown.value.code == "model_not_found"


def test_the_models_are_listed(models: OpenAI, read_only: OpenAI) -> None:
    assert {MODEL, "got_ocr", "reader"} <= {model.id for model in models.models.list()}
    assert [model.id for model in read_only.models.list()] == ["reader"]


def test_the_embedded_reader_answers_from_all_pages_of_a_document(read_only: OpenAI) -> None:
    document = base64.b64encode(pdf(ENGLISH[:2], ENGLISH[2:4], ENGLISH[4:])).decode()
    data = f"data:application/pdf;base64,{document}"
    file: Any = {"type": "file", "file": {"filename": "minutes.pdf", "file_data": data}}

    def answer(words: str) -> str | None:
        completion = read_only.chat.completions.create(
            model="reader", messages=[user(file, said(words))]
        )
        assert completion.usage is not None
        assert completion.usage.completion_tokens > 0
        return completion.choices[0].message.content

    assert answer("When is the next meeting?") == ENGLISH[4]
    assert answer("Read the text") == "\n\n".join(
        "\n".join(lines) for lines in (ENGLISH[:2], ENGLISH[2:4], ENGLISH[4:])
    )


def test_the_embedded_reader_needs_an_image(read_only: OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="send one with the question"):
        read_only.chat.completions.create(model="reader", messages=[user(said("Hello"))])


def test_the_embedded_reader_streams_its_lines(read_only: OpenAI) -> None:
    stream = read_only.chat.completions.create(
        model="reader", messages=[user(shown(PAGE), said("Read the text"))], stream=True
    )
    pieces = [chunk.choices[0].delta.content or "" for chunk in stream]
    assert "".join(pieces) == "\n".join(ENGLISH)
    assert len(pieces) > len(ENGLISH)
