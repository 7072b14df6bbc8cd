"""Forms as the routes get them: a JSON body says the same as a multipart form."""

import base64

import pytest

from common.units import MIB
from tests.support.fakes.runner import base64_of, data_url, picture

NO_FILE = "Send one file: base64 or a data: URL in 'image', or its address in 'url'."
NO_BASE64 = "Parameter 'image': it is neither base64 nor a data: URL."
NOT_ALLOWED = (
    "URLs are not fetched here: send the file itself, or ask the operator to set "
    "CHATVLM_ALLOW_URLS."
)


@pytest.mark.parametrize(
    "image",
    [
        base64_of(picture(5, 2)),
        data_url(picture(5, 2)),
        f"data:;base64,{base64_of(picture(5, 2))}",
        f"DATA:image/png;name=a.png;BASE64,{base64_of(picture(5, 2))}",
        base64.encodebytes(picture(5, 2)).decode(),
    ],
)
@pytest.mark.parametrize("route", ["/ocr", "/chat"])
async def test_an_image_in_json_is_the_image_in_a_form(client, runners, route, image):
    response = await client.post(route, json={"image": image})
    assert response.status_code == 200
    [request] = runners["reader"].requests
    assert request.images == [picture(5, 2)]


async def test_parameters_in_json_are_those_of_a_form(client, runners):
    sent = {"image": data_url(picture()), "model": "qwen3_vl_2b", "prompt": "Why?", "nothing": None}
    response = await client.post("/chat", json=sent | {"temperature": 0.25, "max_tokens": 77})
    assert response.json()["prompt"] == "Why?"
    [request] = runners["qwen3_vl_2b"].requests
    assert (request.question, request.temperature, request.max_tokens) == ("Why?", 0.25, 77)


@pytest.mark.parametrize("box", ["0,0,3,3", [0, 0, 3, 3]])
async def test_options_in_json_are_those_of_a_form(client, runners, box):
    sent = {"image": data_url(picture()), "model": "got_ocr", "formatted": True, "box": box}
    await client.post("/ocr", json=sent, params={"language": "ru"})
    [request] = runners["got_ocr"].requests
    assert (request.options.box, request.options.formatted) == ((0, 0, 3, 3), True)
    assert request.language == "ru"


@pytest.mark.parametrize(
    ("status", "sent", "detail"),
    [
        (400, {}, NO_FILE),
        (400, {"image": "", "url": "https://host/a.png"}, NO_FILE),
        (400, {"image": None, "prompt": "What?"}, NO_FILE),
        (400, {"image": 5}, "Parameters 'image' and 'url' have to be texts."),
        (400, {"url": ["https://host"]}, "Parameters 'image' and 'url' have to be texts."),
        (400, [1, 2], "The body has to be a JSON object."),
        (400, {"image": "no base64!"}, NO_BASE64),
        (400, {"image": "AAAAA"}, NO_BASE64),
        (
            400,
            {"image": "data:image/png,abc"},
            "Parameter 'image': a data: URL has to hold base64.",
        ),
        (400, {"image": ""}, "The file is empty."),
        (
            400,
            {"image": "AAAA", "model": {"id": 1}},
            "Parameter 'model' has to be a text, a number, true or false.",
        ),
        (
            400,
            {"image": "AAAA", "max_tokens": 10**50},
            "Parameter 'max_tokens' has to be a text, a number, true or false.",
        ),
        (
            400,
            {"image": "AAAA", "temperature": 3},
            "Parameter 'temperature': input should be less than or equal to 1, got '3'.",
        ),
        (
            400,
            {"image": base64_of(b"text")},
            "The file is not a readable image or PDF: send JPEG, PNG, BMP, TIFF, WebP, GIF, HEIC, "
            "AVIF, JPEG 2000 or PDF.",
        ),
        (400, {"url": "https://host/a.png"}, NOT_ALLOWED),
        (413, {"image": base64_of(bytes(MIB + 1))}, "The file is larger than 1 MB."),
    ],
)
async def test_what_cannot_be_taken_is_told_why(serve, runners, status, sent, detail):
    response = await serve(max_file_mib=1).post("/chat", json=sent)
    assert (response.status_code, response.json()["detail"]) == (status, detail)
    assert not runners["reader"].requests


async def test_a_url_is_fetched_where_the_operator_allows_it(client, runners, monkeypatch):
    async def fetch(self, url):
        assert url == "https://host/a.png"
        return picture(9, 9)

    monkeypatch.setattr("api.intake.fetching.Fetcher.fetch", fetch)
    response = await client.post("/ocr", json={"url": "https://host/a.png"})
    assert response.json()["text"] == "9x9"
