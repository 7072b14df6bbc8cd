import pytest

from common.messages import Line
from runners.reader.questions.replies import reply_to
from runners.reader.read_page import ReadPage

INVOICE = (
    "Harbour Supplies Ltd",
    "Invoice No. 7731 of 14.03.2024",
    "Ship to: Anna Petrova",
    "Delivery address:",
    "12 Northern Quay, Aberdeen",
    "48 boxes of rope, weight 960 kg",
    "Total amount: $1,250.00",
    "Questions: office@harbour.example",
)
CONTRACT = (
    "ДОГОВОР ПОДРЯДА",
    "Заказчик: Иванова Мария Петровна",
    "Ремонт крыши начинается 12 марта 2024 года.",
    "Стоимость работ составляет 48 300 рублей.",
    "Неустойка за просрочку: 0,1 % за каждый день.",
)


def page_of(lines: tuple[str, ...], language: str) -> ReadPage:
    read = [
        Line(text=text, box=(10, 100 * n, 300, 100 * n + (20 if n else 60)), confidence=0.9)
        for n, text in enumerate(lines)
    ]
    return ReadPage((640, 900), [read] if read else [], language)


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("What is the invoice number?", "Invoice No. 7731 of 14.03.2024"),
        ("Who is it shipped to?", "Ship to: Anna Petrova"),
        ("What is the total?", "Total amount: $1,250.00"),
        ("How much does it cost?", "Total amount: $1,250.00"),
        ("When was the invoice issued?", "Invoice No. 7731 of 14.03.2024"),
        ("Is there an e-mail address?", "Questions: office@harbour.example"),
        ("How many boxes were delivered?", "48 boxes of rope, weight 960 kg"),
        ("What is the delivery address?", "Delivery address:\n12 Northern Quay, Aberdeen"),
    ],
)
def test_an_english_question_is_answered_by_the_line_that_says_it(
    question: str, answer: str
) -> None:
    said = reply_to(question, [page_of(INVOICE, "en")])
    assert said.text == answer
    assert [line.text for line in said.lines] == answer.split("\n")


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("Кто заказчик?", "Заказчик: Иванова Мария Петровна"),
        ("Сколько стоит работа?", "Стоимость работ составляет 48 300 рублей."),
        ("Когда начнётся ремонт крыши?", "Ремонт крыши начинается 12 марта 2024 года."),
        ("Какая неустойка за просрочку?", "Неустойка за просрочку: 0,1 % за каждый день."),
    ],
)
def test_a_russian_question_is_answered_in_any_form_of_its_words(
    question: str, answer: str
) -> None:
    assert reply_to(question, [page_of(CONTRACT, "ru")]).text == answer


def test_a_misread_letter_does_not_hide_the_answer() -> None:
    misread = ("Statement", "Customcr name: J. Smith", "Closing balance: 17.20")
    said = reply_to("What is the customer name?", [page_of(misread, "en")])
    assert said.text == "Customcr name: J. Smith"


@pytest.mark.parametrize(
    "prompt", ["Describe this image", "What does the picture show?", "What is this?"]
)
def test_a_description_tells_size_language_lines_and_heading(prompt: str) -> None:
    said = reply_to(prompt, [page_of(CONTRACT, "ru")])
    for fact in ("640 x 900", "5", "Russian", "ДОГОВОР ПОДРЯДА"):
        assert fact in said.text
    assert said.lines[0].text == "ДОГОВОР ПОДРЯДА"


@pytest.mark.parametrize(
    "prompt", ["Опишите содержимое этого документа", "Что изображено на картинке?"]
)
def test_a_description_is_in_the_language_of_the_question(prompt: str) -> None:
    assert "Размер изображения: 640 x 900" in reply_to(prompt, [page_of(INVOICE, "en")]).text


@pytest.mark.parametrize(
    "prompt",
    [
        "Read all the text",
        "Extract the text from this image",
        "What is in the picture?",
        "What do you see?",
        "Прочитай текст",
        "Что написано?",
    ],
)
def test_a_request_for_the_text_gets_all_of_it(prompt: str) -> None:
    said = reply_to(prompt, [page_of(CONTRACT, "ru")])
    assert said.text == "\n".join(CONTRACT)
    assert len(said.lines) == len(CONTRACT)


@pytest.mark.parametrize("prompt", ["What is the title?", "Как называется документ?"])
def test_the_title_is_the_large_line(prompt: str) -> None:
    assert reply_to(prompt, [page_of(CONTRACT, "ru")]).text == "ДОГОВОР ПОДРЯДА"


@pytest.mark.parametrize(
    "prompt",
    [
        "What colour is the roof?",
        "How many people are in the picture?",
        "Is the woman happy?",
        "Translate the contract into French",
        "What is the capital of Peru?",
    ],
)
def test_what_the_text_cannot_tell_is_said_to_be_beyond_a_reader(prompt: str) -> None:
    said = reply_to(prompt, [page_of(INVOICE, "en")])
    assert "reads only text" in said.text
    assert "vision-language model" in said.text


@pytest.mark.parametrize("prompt", ["Какого цвета крыша?", "Переведи договор на английский"])
def test_the_refusal_is_in_the_language_of_the_question(prompt: str) -> None:
    assert "читает только текст" in reply_to(prompt, [page_of(CONTRACT, "ru")]).text


def test_a_colour_that_the_text_names_is_quoted() -> None:
    form = ("Vehicle record", "Colour: red", "Doors: 5")
    assert reply_to("What colour is it?", [page_of(form, "en")]).text == "Colour: red"


def test_a_page_without_text_is_said_to_be_empty() -> None:
    said = reply_to("What is the total?", [page_of((), "en")])
    assert "No text was found" in said.text
    assert said.lines == []
