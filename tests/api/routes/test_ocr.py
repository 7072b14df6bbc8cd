import pytest

from common.failures import ErrorCode, Failure
from common.messages import Answer, Block, Line, Options, Usage
from tests.support.fakes.runner import picture

OCR_FIELDS = ["text", "model", "processing_time", "image_size", "language"]
ITEM_FIELDS = ["filename", "text", "processing_time", "image_size", "status"]


def pages(*contents: bytes) -> list[tuple[str, tuple[str, bytes]]]:
    return [("files", (f"{number}.png", data)) for number, data in enumerate(contents)]


async def test_a_page_is_answered_with_the_fields_of_the_guide(client):
    response = await client.post("/ocr", files={"file": picture(5, 2)})
    assert response.status_code == 200
    answer = response.json()
    assert list(answer) == OCR_FIELDS
    assert answer | {"processing_time": 0} == {
        "text": "5x2",
        "model": "reader",
        "processing_time": 0,
        "image_size": [5, 2],
        "language": None,
    }
    assert isinstance(answer["processing_time"], float)
    assert answer["processing_time"] == round(answer["processing_time"], 3)


async def test_what_more_the_model_says_comes_after_the_fields_of_the_guide(client, runners):
    runners["reader"].outcome = Answer(
        text="a",
        image_size=(9, 9),
        finish_reason="stop",
        usage=Usage(prompt_tokens=3, visual_tokens=2, completion_tokens=1),
        lines=[Line(text="a", box=(1, 2, 3, 4), confidence=0.5)],
        blocks=[Block(category="Title", box=(1, 2, 3, 4), text="a")],
        truncated=False,
    )
    answer = (await client.post("/ocr", files={"file": picture()})).json()
    assert list(answer) == [
        *OCR_FIELDS,
        *["finish_reason", "usage", "lines", "blocks", "truncated"],
    ]
    assert answer["usage"] == {"prompt_tokens": 3, "visual_tokens": 2, "completion_tokens": 1}
    assert answer["lines"] == [{"text": "a", "box": [1, 2, 3, 4], "confidence": 0.5}]
    assert answer["blocks"] == [{"category": "Title", "box": [1, 2, 3, 4], "text": "a"}]
    assert answer["truncated"] is False


async def test_the_runner_gets_the_bytes_as_they_came_and_reads_greedily(client, runners):
    page = picture(7, 7, "WEBP")
    await client.post(
        "/ocr",
        files={"file": page},
        data={"model": "got_ocr", "box": "0,0,5,5", "formatted": "true"},
        params={"language": "Russian"},
    )
    [request] = runners["got_ocr"].requests
    assert (request.task, request.images, request.language) == ("ocr", [page], "ru")
    assert (request.temperature, request.max_tokens) == (None, 4096)  # the runner reads greedily
    assert request.options == Options(box=(0, 0, 5, 5), formatted=True)
    [time_limit] = runners["got_ocr"].time_limits
    assert 29 < time_limit <= 30


@pytest.mark.parametrize(
    ("model", "most"), [("dots_ocr", 16_384), ("qwen_vl_7b", 2048), ("qwen3_vl_8b", 16_384)]
)
async def test_an_answer_is_as_long_as_the_model_s_authors_allow(client, runners, model, most):
    await client.post("/ocr", files={"file": picture()}, params={"model": model})
    assert runners[model].requests[0].max_tokens == most


@pytest.mark.parametrize("path", ["/ocr", "/batch/ocr"])
async def test_a_request_may_say_the_length_of_the_answer_and_the_prompt(client, runners, path):
    file = "file" if path == "/ocr" else "files"
    asked = {"model": "qwen3_vl_2b", "max_tokens": "77", "prompt": "Only the table, as HTML."}
    response = await client.post(path, files={file: picture()}, data=asked)
    assert response.status_code == 200
    [request] = runners["qwen3_vl_2b"].requests
    assert (request.task, request.max_tokens) == ("ocr", 77)
    assert request.options.prompt == "Only the table, as HTML."


@pytest.mark.parametrize("model", ["got_ocr", "reader"])
async def test_a_prompt_is_refused_by_a_model_that_follows_none(client, model):
    asked = {"model": model, "prompt": "Only the table"}
    refused = await client.post("/ocr", files={"file": picture()}, data=asked)
    assert (refused.status_code, refused.json()["detail"]) == (
        400,
        f"Model '{model}' does not take the parameter 'prompt'.",
    )


@pytest.mark.parametrize("hint", ["Russian", "ru", "Русский", "rus+eng"])
async def test_the_language_is_echoed_as_it_was_given(client, runners, hint):
    response = await client.post("/ocr", files={"file": picture()}, data={"language": hint})
    assert response.json()["language"] == hint
    assert runners["reader"].requests[0].language == "ru"


@pytest.mark.parametrize(
    ("status", "detail", "sent"),
    [
        (400, "The file is empty.", {"files": {"file": b""}}),
        (
            400,
            "The file is not a readable image or PDF: send JPEG, PNG, BMP, TIFF, WebP, GIF, HEIC, "
            "AVIF, JPEG 2000 or PDF.",
            {"files": {"file": b"text"}},
        ),
        (
            400,
            "The image is broken or truncated: it could not be decoded.",
            {"files": {"file": picture(99, 99, "BMP")[:54]}},
        ),
        (
            400,
            "The request has no file: send one as multipart/form-data in the field 'file'.",
            {"data": {"model": "got_ocr"}},
        ),
        (400, "The request has no file: send one as multipart/form-data in the field 'file'.", {}),
        (
            400,
            "Parameter 'model' is given twice with different values.",
            {
                "files": {"file": picture()},
                "data": {"model": "got_ocr"},
                "params": {"model": "dots_ocr"},
            },
        ),
        (
            400,
            "Unknown language 'Elvish': send a name or an ISO 639 code, such as 'Russian' or 'ru'.",
            {"files": {"file": picture()}, "params": {"language": "Elvish"}},
        ),
        (
            400,
            "Model 'reader' does not take the parameter 'box'.",
            {"files": {"file": picture()}, "params": {"box": "0,0,1,1"}},
        ),
        (
            404,
            "Failed to load model: Model 'invalid_model' not found",
            {"files": {"file": picture()}, "params": {"model": "invalid_model"}},
        ),
        (413, "The file is larger than 1 MB.", {"files": {"file": bytes(2**20 + 1)}}),
        (
            413,
            "The image has 1001 x 1000 pixels; at most 1000000 are read.",
            {"files": {"file": picture(1001, 1000)}},
        ),
    ],
)
async def test_a_request_that_cannot_be_answered_is_told_why(serve, status, detail, sent):
    client = serve(max_file_mib=1, max_image_pixels=1_000_000)
    response = await client.post("/ocr", **sent)
    assert (response.status_code, response.json()["detail"]) == (status, detail)


async def test_a_batch_is_answered_in_the_order_sent(client):
    sizes = [(9, 1), (2, 8), (7, 3)]
    response = await client.post("/batch/ocr", files=pages(*(picture(*size) for size in sizes)))
    assert response.status_code == 200
    batch = response.json()
    assert list(batch) == ["results", "total", "successful", "failed"]
    assert (batch["total"], batch["successful"], batch["failed"]) == (3, 3, 0)
    assert [item["filename"] for item in batch["results"]] == ["0.png", "1.png", "2.png"]
    assert [item["text"] for item in batch["results"]] == ["9x1", "2x8", "7x3"]
    for item in batch["results"]:
        assert list(item) == ITEM_FIELDS
        assert item["status"] == "success"


async def test_files_that_fail_do_not_touch_the_others(serve):
    contents = [picture(9, 1), b"text", bytes(2**20 + 1), b"", picture(7, 3)]
    response = await serve(max_file_mib=1).post("/batch/ocr", files=pages(*contents))
    assert response.status_code == 200
    batch = response.json()
    assert (batch["total"], batch["successful"], batch["failed"]) == (5, 2, 3)
    assert [item["status"] for item in batch["results"]] == [
        "success",
        "error",
        "error",
        "error",
        "success",
    ]
    assert batch["results"][2] == {
        "filename": "2.png",
        "error": "The file is larger than 1 MB.",
        "status": "error",
        "code": "too_large",
    }


async def test_a_batch_of_nothing_but_bad_files_is_answered_entry_by_entry(client):
    response = await client.post("/batch/ocr", files=pages(b"text", b""))
    assert response.status_code == 200
    assert response.json()["failed"] == 2


@pytest.mark.parametrize(
    ("code", "status"),
    [
        (ErrorCode.UNAVAILABLE, 503),
        (ErrorCode.LOADING, 503),
        (ErrorCode.QUEUE_FULL, 503),
        (ErrorCode.DEADLINE, 504),
    ],
)
async def test_a_batch_that_the_runner_cannot_take_gets_the_status_of_that(
    client, runners, code, status
):
    runners["reader"].outcome = Failure(code=code, detail="Not now.", retry_after=7)
    response = await client.post("/batch/ocr", files=pages(picture(), picture()))
    assert (response.status_code, response.json()["detail"]) == (status, "Not now.")
    assert response.headers.get("retry-after") == ("7" if status == 503 else None)


async def test_a_batch_that_fails_for_several_reasons_says_each(client, runners):
    runners["reader"].outcome = Failure(code=ErrorCode.QUEUE_FULL, detail="Not now.")
    response = await client.post("/batch/ocr", files=pages(picture(), b""))
    assert response.status_code == 200
    assert [item["error"] for item in response.json()["results"]] == [
        "Not now.",
        "The file is empty.",
    ]


async def test_a_batch_takes_model_language_and_options(client, runners):
    sent = {"model": "dots_ocr", "language": "Russian"}
    await client.post(
        "/batch/ocr", files=pages(picture(), picture()), params=sent, data={"mode": "layout"}
    )
    for request in runners["dots_ocr"].requests:
        assert (request.language, request.options.mode) == ("ru", "layout")


async def test_more_files_than_the_limit_are_refused(client, runners):
    response = await client.post("/batch/ocr", files=pages(*[picture()] * 11))
    assert response.status_code == 400
    assert response.json()["detail"] == "Field 'files' takes at most 10 files: send fewer."
    assert not runners["reader"].requests
