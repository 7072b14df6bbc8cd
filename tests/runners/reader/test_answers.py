from common.messages import (
    Answer,
    Image,
    Line,
    Options,
    PageText,
    Request,
    Turn,
    Usage,
    single_turn,
)
from runners.reader.answers import make_answer
from runners.reader.reading import ReadPage
from tests.support.pages import ENGLISH


def page(*blocks: tuple[str, ...]) -> ReadPage:
    """A page of 300 x 900 pixels with a line every 20 pixels."""
    number = 0
    read: list[list[Line]] = []
    for block in blocks:
        read.append([])
        for text in block:
            box = (10 + number, 20 * number, 200 + number, 20 * number + 15)
            read[-1].append(Line(text=text, box=box, confidence=0.9))
            number += 1
    return ReadPage((300, 900), read, "en")


def answer(*pages: ReadPage, prompt: str | None = None, **fields: object) -> Answer:
    """To the prompt; without one, the page is read."""
    task = "ocr" if prompt is None else "chat"
    turns = single_turn([b"an image"], *([] if prompt is None else [prompt]))
    request = Request.model_validate({"task": task, "turns": turns, "max_tokens": 2048} | fields)
    return make_answer(request, pages or [page(ENGLISH)])


def test_a_page_that_is_read_is_its_lines() -> None:
    read = answer(page(ENGLISH[:2], ENGLISH[2:]))
    assert read.text == "\n".join(ENGLISH[:2]) + "\n\n" + "\n".join(ENGLISH[2:])
    assert [line.text for line in read.lines or ()] == list(ENGLISH)
    assert read.image_size == (300, 900)
    assert (read.blocks, read.usage, read.prompt_used, read.warning) == (None,) * 4


def test_layout_mode_adds_a_block_around_the_lines_of_each() -> None:
    read = answer(page(ENGLISH[:2], ENGLISH[2:4]), options=Options(mode="layout"))
    assert [(block.text, block.box) for block in read.blocks or ()] == [
        ("\n".join(ENGLISH[:2]), (10, 0, 201, 35)),
        ("\n".join(ENGLISH[2:4]), (12, 40, 203, 75)),
    ]


def test_formatted_text_is_markdown_and_the_lines_stay() -> None:
    read = answer(page(("Item\tPrice", "Bread *\t1.20")), options=Options(formatted=True))
    assert read.text == "| Item | Price |\n| --- | --- |\n| Bread \\* | 1.20 |"
    assert [line.text for line in read.lines or ()] == ["Item\tPrice", "Bread *\t1.20"]


def test_a_language_without_trained_data_is_warned_of() -> None:
    assert answer(language="de").warning == (
        "There is no trained data for German: read as English and Russian."
    )
    assert answer(language="ru").warning is None


def test_the_words_and_punctuation_marks_are_counted() -> None:
    read = answer(prompt="What will the repairs cost?")
    assert read.text == ENGLISH[2]
    assert read.usage == Usage(prompt_tokens=6, visual_tokens=0, completion_tokens=12)
    assert read.prompt_used is True


def test_max_tokens_and_stop_texts_end_an_answer() -> None:
    cut = answer(prompt="Read the text", max_tokens=3)
    assert (cut.text, cut.finish_reason) == ("Minutes of the", "length")
    stopped = answer(prompt="Read the text", stop=("the chair", "nine"))
    assert stopped.text == f"{ENGLISH[0]}\nThe meeting was opened at "
    assert stopped.finish_reason == "stop"


def test_a_picture_alone_is_for_what_was_said_before_it() -> None:
    picture = Turn(role="user", parts=(Image(data=b"an image"),))
    told = Turn(role="system", parts=("Transcribe",))
    asked = Turn(role="user", parts=("What will the repairs cost?",))
    agreed = Turn(role="assistant", parts=("Send the page.",))
    whole = "\n".join(ENGLISH)
    assert answer(prompt="", turns=(told, picture)).text == whole
    assert answer(prompt="", turns=(picture,)).text == whole
    assert answer(prompt="", turns=(told, asked, agreed, picture)).text == ENGLISH[2]


def test_an_answer_says_where_its_text_comes_from_if_that_was_asked() -> None:
    read = Image(data=b"an image")
    layer = Image(data=b"an image", text=PageText(size=(300, 900), blocks=[]))
    pages = [page(ENGLISH)] * 2
    for images, source in (
        ((read, read), "image"),
        ((layer, layer), "text_layer"),
        ((read, layer), "both"),
    ):
        turns = (Turn(role="user", parts=(*images, "Read.")),)
        assert answer(*pages, prompt="", turns=turns, says_source=True).source == source
        assert answer(*pages, prompt="", turns=turns).source is None
