from api.formats import guide
from api.tasks.results import FileResult, PageFailure, PageResult
from common.failures import ErrorCode, Failure
from common.messages import Answer, Line

LINE = Line(text="a", box=(1, 2, 3, 4), confidence=0.5)
READ = PageResult(1, Answer(text="a", image_size=(4, 3), lines=[LINE], warning="Hm."), 0.12345)
FAILED = PageFailure(2, Failure(code=ErrorCode.BAD_IMAGE, detail="Page 2 is broken."))
IMAGE = FileResult((READ,), is_document=False, seconds=0.12345)
DOCUMENT = FileResult((FAILED, READ), is_document=True, seconds=1.23456)
LINES = [{"text": "a", "box": [1, 2, 3, 4], "confidence": 0.5}]


def test_an_image_is_answered_with_what_the_model_says_of_it_after_the_guides_fields():
    answer = guide.ocr(IMAGE, "got_ocr", "ru").model_dump(mode="json")
    assert list(answer.items()) == [
        ("text", "a"),
        ("model", "got_ocr"),
        ("processing_time", 0.123),
        ("image_size", [4, 3]),
        ("language", "ru"),
        ("lines", LINES),
        ("warning", "Hm."),
    ]


def test_a_document_is_answered_page_by_page():
    answer = guide.ocr(DOCUMENT, "got_ocr", None).model_dump(mode="json")
    pages = answer.pop("pages")
    assert answer == {
        "text": "\fa",
        "model": "got_ocr",
        "processing_time": 1.235,
        "image_size": [4, 3],
        "language": None,
    }
    assert pages[0] == {
        "number": 2,
        "error": "Page 2 is broken.",
        "status": "error",
        "code": "bad_image",
    }
    assert list(pages[1].items()) == [
        ("number", 1),
        ("text", "a"),
        ("processing_time", 0.123),
        ("image_size", [4, 3]),
        ("status", "success"),
        ("lines", LINES),
        ("warning", "Hm."),
    ]


def test_a_batch_counts_its_files():
    batch = guide.batch([("a.png", IMAGE), ("b.png", FAILED.failure), ("c.pdf", DOCUMENT)])
    answer = batch.model_dump(mode="json")
    assert (answer["total"], answer["successful"], answer["failed"]) == (3, 2, 1)
    image, failed, document = answer["results"]
    assert list(image) == [
        *["filename", "text", "processing_time", "image_size", "status"],
        *["lines", "warning"],
    ]
    assert failed == {
        "filename": "b.png",
        "error": "Page 2 is broken.",
        "status": "error",
        "code": "bad_image",
    }
    assert len(document["pages"]) == 2


def test_a_warning_of_the_service_follows_the_models():
    chat = guide.ChatFormat("got_ocr", "What?", "Only page 1 was shown.", 0.0)
    assert chat.answer(READ.answer).warning == "Hm. Only page 1 was shown."
    answer = chat.answer(Answer(text="a", image_size=(4, 3)))
    assert answer.warning == "Only page 1 was shown."
