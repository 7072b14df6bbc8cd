"""Prompts of OCR clients and people, in English and Russian, and what they ask for."""

import pytest

from runners.reader.questions.request import Wanted, understand
from runners.reader.questions.words import stem, stems_of
from tests.support.reader.prompts import ASKING, READING

PAGE = stems_of(
    "Harbour Supplies Ltd. Invoice No. 7731 of 14.03.2024. Ship to: Anna Petrova. Delivery "
    "address: 12 Northern Quay. Contract, penalties, next meeting. Full image, printed in "
    "Markdown, page text written line read, text, дата, договор, неустойка, стоимость работ."
)
"""A page that has many words of the prompts themselves."""

DESCRIBING = (
    "Describe this image",
    "Describe the picture in detail",
    "Tell me about this image",
    "What is this?",
    "What is this document?",
    "What is this document about?",
    "What does the picture show?",
    "Опиши картинку",
    "Опишите содержимое этого документа",
    "Что это?",
    "Что изображено на картинке?",
    "О чём этот документ?",
    "Расскажи, что на картинке",
)
TITLE = (
    "What is the title?",
    "Read the title",
    "How is the document called?",
    "Как называется документ?",
    "Какой заголовок у документа?",
)


def is_on_page(word: str) -> bool:
    return stem(word) in PAGE


def wanted(prompt: str) -> Wanted:
    return understand(prompt, is_on_page).wanted


@pytest.mark.parametrize("prompt", READING)
def test_a_prompt_to_read_asks_for_the_text(prompt: str) -> None:
    assert wanted(prompt) is Wanted.TEXT
    assert understand(prompt, lambda word: False).wanted is Wanted.TEXT


@pytest.mark.parametrize("prompt", ASKING)
def test_a_question_or_another_task_asks_for_an_answer(prompt: str) -> None:
    request = understand(prompt, is_on_page)
    assert request.wanted is Wanted.ANSWER
    assert understand(prompt, lambda word: False).wanted is Wanted.ANSWER


@pytest.mark.parametrize("prompt", DESCRIBING)
def test_a_prompt_to_describe_asks_for_a_description(prompt: str) -> None:
    assert wanted(prompt) is Wanted.DESCRIPTION


@pytest.mark.parametrize("prompt", TITLE)
def test_a_prompt_for_the_title_asks_for_it(prompt: str) -> None:
    assert wanted(prompt) is Wanted.TITLE


@pytest.mark.parametrize("prompt", ["", " ", "Here you go", "You are a helpful assistant. Thanks!"])
def test_a_prompt_that_asks_nothing_asks_for_the_text(prompt: str) -> None:
    assert wanted(prompt) is Wanted.TEXT


@pytest.mark.parametrize(
    "prompt",
    [
        "Quickly transcribe the crumpled brochure",
        "OCR the whole thing, mate",
        "Read the nameplate",
        "Pretty please scribble down the text, love",
        "Прочитай смятую брошюрку",
        "Распознай-ка эту бумаженцию, дружок",
    ],
)
def test_words_that_no_list_has_do_not_hide_a_prompt_to_read(prompt: str) -> None:
    assert wanted(prompt) is Wanted.TEXT


def test_an_unknown_object_that_stands_on_the_page_is_asked_for() -> None:
    assert wanted("Read the penalties") is Wanted.ANSWER
    assert wanted("Read the fines") is Wanted.TEXT


def test_the_fields_of_a_list_are_topics_of_their_own() -> None:
    request = understand("Extract the invoice number, date and total as JSON", is_on_page)
    assert request.topics == (("invoice", "number"), ("date",), ("total",))
