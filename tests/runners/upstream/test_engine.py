import asyncio
import io
from contextlib import aclosing

import pytest

from common.catalog import CATALOG
from common.deadline import Deadline
from common.failures import ErrorCode, Refusal
from common.logs import request_ids
from common.messages import (
    Answer,
    Constraint,
    Image,
    Options,
    Piece,
    Request,
    Tool,
    Toolbox,
    ToolCall,
    Turn,
    Usage,
    single_turn,
)
from runners.upstream.families import FAMILIES
from tests.support.fakes.runner import picture, until
from tests.support.fakes.upstream import NAME, refusal
from tests.support.models.prompts import page

PNG = picture(64, 64)


def question(text="What is this?", *images, max_tokens=100, **changes) -> Request:
    turns = single_turn(images, text)
    return Request(task="chat", turns=turns, max_tokens=max_tokens, **changes)


def drawn(width: int, height: int) -> bytes:
    file = io.BytesIO()
    page(width, height).save(file, "PNG")
    return file.getvalue()


def reading(width=300, height=200, **changes) -> Request:
    turns = single_turn([drawn(width, height)])
    return Request(task="ocr", turns=turns, max_tokens=100, **changes)


async def items(engine, request, seconds=10.0):
    async with aclosing(engine.stream(request, Deadline(seconds))) as stream:
        return [item async for item in stream]


async def test_a_question_is_answered_with_the_counts_and_the_reason_of_the_server(
    engine, upstream
):
    answer = await engine.answer(question("What is this?", PNG), Deadline(10))
    assert answer == Answer(
        text="Two words",
        image_size=(64, 64),
        finish_reason="stop",
        usage=Usage(prompt_tokens=70, visual_tokens=64, completion_tokens=2),
    )
    assert upstream.body["model"] == NAME
    assert upstream.body["max_tokens"] == 100


async def test_the_server_says_how_many_tokens_are_visual_where_it_can(engine, upstream):
    upstream.details = {"multimodal_tokens": {"image": 66}}
    answer = await engine.answer(question("What is this?", PNG), Deadline(10))
    assert answer.usage.visual_tokens == 66


async def test_a_server_without_counts_leaves_the_answer_without_usage(engine, upstream):
    upstream.tells_usage = False
    answer = await engine.answer(question(), Deadline(10))
    assert (answer.text, answer.usage) == ("Two words", None)


async def test_pieces_come_as_they_are_made(engine, upstream):
    upstream.may_end.clear()
    async with aclosing(engine.stream(question(), Deadline(10))) as stream:
        assert await anext(stream) == Piece(text="Two")
        upstream.may_end.set()
        *pieces, answer = [item async for item in stream]
    assert [piece.text for piece in pieces] == [" words"]
    assert answer.text == "Two words"


async def test_the_pieces_are_the_answer_without_white_space_at_its_ends(engine, upstream):
    upstream.texts = ["\n ", "One", " \n", "two", "\n\n", " "]
    *pieces, answer = await items(engine, question())
    assert "".join(piece.text for piece in pieces) == answer.text == "One \ntwo"


async def test_an_answer_that_ends_at_its_most_tokens_says_so(engine, upstream):
    upstream.reason = "length"
    answer = await engine.answer(question(), Deadline(10))
    assert answer.finish_reason == "length"


async def test_a_page_is_read_greedily_with_the_words_of_its_family(engine, upstream):
    answer = await engine.answer(reading(language="ru"), Deadline(10))
    assert answer.image_size == (300, 200)
    ((message,), images) = upstream.body["messages"], upstream.images
    image, text = message["content"]
    assert image["type"] == "image_url"
    assert text["text"] == FAMILIES["qwen_vl"].instruction(reading(language="ru"))
    assert text["text"].endswith("The text is in Russian.")
    assert upstream.body["temperature"] == 0
    assert images[0].size == (320, 224)


async def test_a_page_is_read_with_the_words_of_its_request(engine, upstream):
    await engine.answer(reading(options=Options(prompt="Only the table.")), Deadline(10))
    assert upstream.body["messages"][0]["content"][1]["text"] == "Only the table."


async def test_a_blank_page_is_not_sent(engine, upstream):
    request = Request(task="ocr", turns=single_turn([PNG]), max_tokens=100)
    answer = await engine.answer(request, Deadline(10))
    assert (answer.text, answer.finish_reason, upstream.bodies) == ("", "stop", [])


async def test_what_a_request_says_of_sampling_is_passed_on(engine, upstream):
    said = {
        "temperature": 0.3,
        "top_p": 0.5,
        "top_k": 9,
        "min_p": 0.1,
        "repetition_penalty": 1.1,
        "frequency_penalty": 0.2,
        "presence_penalty": 0.4,
        "min_tokens": 3,
        "seed": 7,
    }
    await engine.answer(question(stop=("END",), **said), Deadline(10))
    assert (said | {"stop": ["END"]}).items() <= upstream.body.items()


async def test_the_rest_of_sampling_is_the_servers_or_that_of_the_catalog(make, engine, upstream):
    await engine.answer(question(), Deadline(10))
    assert not {"temperature", "top_p", "seed", "stop", "top_k"} & upstream.body.keys()
    upstream.models = [{"id": "dots_ocr"}]
    await make("dots_ocr").answer(question("Who?", PNG), Deadline(10))
    assert (upstream.body["temperature"], upstream.body["top_p"]) == (0.1, 0.9)


async def test_a_field_that_cannot_be_passed_on_is_refused_by_name(engine, upstream):
    tools = Toolbox(tools=(Tool(name="f", description=None, parameters={}),), callable=("f",))
    called = Turn(role="assistant", parts=(), calls=(ToolCall(name="f", arguments="{}"),))
    request = question(n=2, logprobs=0, toolbox=tools)
    request = request.model_copy(update={"turns": (*request.turns, called)})
    with pytest.raises(Refusal, match="pass on logprobs, n, tool_calls, tools") as refused:
        await engine.answer(request, Deadline(10))
    assert refused.value.code is ErrorCode.BAD_PARAMETER
    assert upstream.bodies == []


@pytest.mark.parametrize(
    ("kind", "text", "sent"),
    [
        (
            "json",
            '{"type": "object"}',
            {
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {
                        "name": "answer",
                        "schema": {"type": "object"},
                        "strict": True,
                    },
                }
            },
        ),
        ("choice", '["a", "b"]', {"structured_outputs": {"choice": ["a", "b"]}}),
        ("regex", "a+", {"structured_outputs": {"regex": "a+"}}),
        ("grammar", 'start: "a"', {"structured_outputs": {"grammar": 'start: "a"'}}),
    ],
)
async def test_the_server_holds_the_answer_to_what_it_is_to_be_held_to(
    engine, upstream, kind, text, sent
):
    await engine.answer(question(constraint=Constraint(kind=kind, text=text)), Deadline(10))
    assert sent.items() <= upstream.body.items()


async def test_a_key_and_the_id_of_the_request_are_sent(make, upstream):
    request_ids.current.set("abc")
    engine = make(upstream_keys={"qwen3_vl_8b": "secret"})
    await engine.answer(question(), Deadline(10))
    for headers in upstream.headers:
        assert headers["Authorization"] == "Bearer secret"
        assert headers["X-Request-ID"] == "abc"


async def test_dots_ocrs_layout_is_on_the_page_as_it_came(make, upstream):
    upstream.models = [{"id": "dots_ocr"}]
    upstream.texts = ['[{"bbox": [28, 28, 252, 56], "category": "Title", "text": "Report"}']
    upstream.reason = "length"
    request = reading(2800, 5600, options=Options(mode="layout"))
    engine = make("dots_ocr", max_pixels=280 * 560)
    answer = await engine.answer(request, Deadline(10))
    assert upstream.images[0].size == (280, 560)
    assert answer.text == "# Report"
    assert [block.box for block in answer.blocks] == [(280, 280, 2520, 560)]
    assert answer.truncated is True


async def test_cancelling_hangs_up(engine, upstream):
    upstream.may_end.clear()
    call = asyncio.create_task(engine.answer(question(), Deadline(10)))
    await asyncio.wait_for(upstream.waits.wait(), 5)
    assert (await engine.status()).rows == 1
    call.cancel()
    await asyncio.wait_for(upstream.stopped.wait(), 5)
    assert (await engine.status()).rows == 0


async def test_closing_a_stream_hangs_up(engine, upstream):
    upstream.may_end.clear()
    async with aclosing(engine.stream(question(), Deadline(10))) as stream:
        await anext(stream)
    await asyncio.wait_for(upstream.stopped.wait(), 5)


async def test_at_the_deadline_there_is_what_has_come_and_the_server_stops(engine, upstream):
    upstream.may_end.clear()
    answer = await engine.answer(question(), Deadline(0.5))
    assert (answer.text, answer.finish_reason) == ("Two", "deadline")
    assert answer.usage.completion_tokens == 1
    await asyncio.wait_for(upstream.stopped.wait(), 5)


async def test_a_server_that_hangs_is_given_up_at_the_deadline(engine, upstream):
    upstream.texts = ["late"]
    upstream.may_end.clear()
    with pytest.raises(Refusal) as refused:
        await engine.answer(question(), Deadline(0.5))
    assert refused.value.code is ErrorCode.DEADLINE
    await asyncio.wait_for(upstream.stopped.wait(), 5)


async def test_an_endless_loop_is_cut_and_the_server_stops(engine, upstream):
    upstream.texts = ["Once. ", *["again and "] * 400]
    upstream.may_end.clear()
    answer = await engine.answer(question(max_tokens=1000), Deadline(10))
    assert answer.finish_reason == "repetition"
    assert answer.text.startswith("Once. again and again and")
    assert len(answer.text.split()) < 40
    assert 100 < answer.usage.completion_tokens < 400


async def test_where_the_longest_answer_does_not_fit_it_is_as_long_as_it_can(engine, upstream):
    await engine.answer(question(), Deadline(10))
    upstream.refusals = [refusal(400, "'max_tokens' is too large: the maximum context length is 9")]
    answer = await engine.answer(question(), Deadline(10))
    assert answer.text == "Two words"
    assert ["max_tokens" in body for body in upstream.bodies] == [True, True, False]


async def test_a_prompt_that_does_not_fit_is_refused(engine, upstream):
    await engine.answer(question(), Deadline(10))
    said = "The decoder prompt (length 9) is longer than the maximum model length of 8."
    upstream.refusals = [refusal(400, said), refusal(400, said)]
    with pytest.raises(Refusal, match="longer than what the server that runs") as refused:
        await engine.answer(question(), Deadline(10))
    assert refused.value.code is ErrorCode.BAD_PARAMETER


async def test_all_images_take_a_share_of_the_servers_context(engine, upstream):
    upstream.models = [{"id": NAME, "max_model_len": 2000}]
    big = drawn(2000, 2000)
    await engine.answer(question("Compare them.", big, big), Deadline(10))
    shares = [image.width * image.height for image in upstream.images]
    assert all(0.7 * 800 * 32**2 < share <= 800 * 32**2 for share in shares)


async def test_systems_are_joined_and_texts_stay_in_their_order(engine, upstream):
    turns = (
        Turn(role="system", parts=("Be brief.",)),
        Turn(role="user", parts=("Look: ", Image(data=PNG), "What", " is it?")),
        Turn(role="assistant", parts=("A page.",)),
        Turn(role="system", parts=("Be kind.",)),
        Turn(role="user", parts=("And now?",)),
    )
    await engine.answer(Request(task="chat", turns=turns, max_tokens=9), Deadline(10))
    system, first, said, last = upstream.body["messages"]
    assert system == {"role": "system", "content": "Be brief.\n\nBe kind."}
    assert [part.get("text", part["type"]) for part in first["content"]] == [
        "Look: ",
        "image_url",
        "What is it?",
    ]
    assert said == {"role": "assistant", "content": "A page."}
    assert last == {"role": "user", "content": "And now?"}


@pytest.mark.parametrize(
    ("parts", "text"),
    [
        (("Who?",), "<|img|><|imgpad|><|endofimg|>Who?"),
        (("<|img|><|imgpad|><|endofimg|>Who?",), "<|img|><|imgpad|><|endofimg|>Who?"),
        ((), "<|img|><|imgpad|><|endofimg|>"),
    ],
)
async def test_dots_ocr_is_asked_as_its_authors_client_does(make, upstream, parts, text):
    upstream.models = [{"id": "rednote-hilab/dots.ocr"}]
    turns = (Turn(role="user", parts=(Image(data=PNG), *parts)),)
    await make("dots_ocr").answer(Request(task="chat", turns=turns, max_tokens=9), Deadline(10))
    image, said = upstream.body["messages"][0]["content"]
    assert image["type"] == "image_url"
    assert said == {"type": "text", "text": text}


async def test_load_and_unload_leave_the_model_to_the_server(engine, upstream):
    await engine.load()
    assert await engine.unload() is False
    assert (await engine.status()).state == "loaded"
    assert upstream.bodies == []


async def test_requests_are_counted_until_they_are_answered(engine, upstream):
    upstream.may_end.clear()
    calls = [asyncio.create_task(engine.answer(question(), Deadline(10))) for _ in range(3)]
    await until(lambda: len(upstream.bodies) == 3)
    status = await engine.status()
    assert (status.rows, status.idle_seconds, status.is_upstream) == (3, 0, True)
    upstream.may_end.set()
    await asyncio.gather(*calls)
    assert (await engine.status()).rows == 0


def test_every_family_that_converses_can_be_asked_elsewhere():
    families = {entry.family for entry in CATALOG.values() if entry.converses and entry.family}
    assert families == FAMILIES.keys()


async def test_no_setting_lets_dots_ocr_see_more_pixels_than_it_takes(make, upstream):
    upstream.models = [{"id": "dots_ocr"}]
    engine = make("dots_ocr", max_pixels_by_model={"dots_ocr": 20_000_000})
    await engine.answer(question("Who?", drawn(4200, 2900)), Deadline(30))
    width, height = upstream.images[0].size
    assert 11_000_000 < width * height <= 11_289_600


async def test_what_was_streamed_is_the_answer_where_a_loop_was_cut(engine, upstream):
    upstream.texts = ["Once. ", *["again and "] * 400]
    *pieces, answer = await items(engine, question(max_tokens=1000))
    assert answer.finish_reason == "repetition"
    assert "".join(piece.text for piece in pieces) == answer.text
