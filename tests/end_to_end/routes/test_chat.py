"""Questions to the embedded reader, which answers from the text it reads and from nothing else."""

from typing import Any

import pytest
from PIL import Image

from tests.support.pages import ENGLISH, RUSSIAN, encode, render
from tests.support.server import Server
from tests.support.streams import events

PAGES = {"en": encode(render(ENGLISH)), "ru": encode(render(RUSSIAN))}
BLANK = encode(Image.new("RGB", (800, 600), "white"))


def ask(server: Server, page: bytes, prompt: str, **fields: str) -> dict[str, Any]:
    response = server.client.post("/chat", files={"file": page}, data={"prompt": prompt, **fields})
    assert response.status_code == 200, response.text
    return response.json()


@pytest.mark.parametrize(
    ("language", "prompt", "line"),
    [
        ("en", "When is the next meeting?", ENGLISH[4]),
        ("en", "How much will the repairs cost?", ENGLISH[2]),
        ("en", "What is the title?", ENGLISH[0]),
        ("ru", "Когда следующее собрание?", RUSSIAN[4]),
        ("ru", "Сколько стоит ремонт?", RUSSIAN[2]),
        ("ru", "Какой заголовок у документа?", RUSSIAN[0]),
    ],
)
def test_a_question_is_answered_with_the_line_that_holds_the_answer(
    language: str, prompt: str, line: str, reader: Server
) -> None:
    answer = ask(reader, PAGES[language], prompt)
    assert answer["response"] == line
    assert [evidence["text"] for evidence in answer["lines"]] == [line]
    assert answer["prompt"] == prompt


@pytest.mark.parametrize(
    ("language", "prompt", "says"),
    [
        ("en", "What colour is the car?", "reads only text"),
        ("en", "How many people are there in the picture?", "reads only text"),
        ("en", "Is the woman smiling?", "reads only text"),
        ("ru", "Какого цвета машина?", "читает только текст"),
        ("ru", "Сколько людей на картинке?", "читает только текст"),
    ],
)
def test_it_says_that_it_cannot_see_what_is_not_text(
    language: str, prompt: str, says: str, reader: Server
) -> None:
    assert says in ask(reader, PAGES[language], prompt)["response"]


@pytest.mark.parametrize(
    ("language", "prompt", "facts"),
    [
        ("en", "Describe this image", ["748 x 260", "Lines of text: 5", "English", ENGLISH[0]]),
        ("ru", "Что изображено на картинке?", ["800 x 260", "5", "русский", RUSSIAN[0]]),
    ],
)
def test_a_description_is_of_the_text_that_was_read(
    language: str, prompt: str, facts: list[str], reader: Server
) -> None:
    response = ask(reader, PAGES[language], prompt)["response"]
    assert [fact for fact in facts if fact not in response] == []


def test_an_empty_page_is_said_to_be_empty(reader: Server) -> None:
    answer = ask(reader, BLANK, "What do you see?")
    assert answer["response"].startswith("No text was found")
    assert answer["lines"] == []


def test_max_tokens_cuts_the_answer_and_says_so(reader: Server) -> None:
    answer = ask(reader, PAGES["en"], "Read the text", max_tokens="3")
    assert (answer["response"], answer["finish_reason"]) == ("Minutes of the", "length")


def test_a_stream_is_pieces_and_then_the_whole_answer(reader: Server) -> None:
    response = reader.client.post(
        "/chat", files={"file": PAGES["en"]}, data={"prompt": "Read the text", "stream": "true"}
    )
    assert response.headers["content-type"].startswith("text/event-stream")
    *pieces, (last, answer) = events(response.text)
    assert {name for name, _ in pieces} == {"piece"}
    assert last == "answer"
    assert len(pieces) > 1
    assert "".join(data["text"] for _, data in pieces) == answer["response"] == "\n".join(ENGLISH)
    assert {"response", "model", "processing_time", "prompt"} <= set(answer)


def test_a_stream_that_cannot_begin_is_a_plain_error(reader: Server) -> None:
    response = reader.client.post(
        "/chat", files={"file": PAGES["en"][:45]}, data={"stream": "true"}
    )
    assert response.status_code == 400
    assert set(response.json()) == {"detail", "code"}
