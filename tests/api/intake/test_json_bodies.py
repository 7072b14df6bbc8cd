import asyncio
import base64
import threading
from collections.abc import Iterable

import pytest
from fastapi import Request

from api.intake import json_bodies
from api.intake.json_bodies import JSON, decoded, read_json
from common.failures import ErrorCode, Refusal
from settings import MIB, Settings
from tests.support.fake_runner import picture

NO_FILE = "Send one file: base64 or a data: URL in 'image', or its address in 'url'."
NO_BASE64 = "Parameter 'image': it is neither base64 nor a data: URL."
NOT_ALLOWED = (
    "URLs are not fetched here: send the file itself, or ask the operator to set "
    "CHATVLM_ALLOW_URLS."
)


def base64_of(data: bytes) -> str:
    return base64.b64encode(data).decode()


def data_url(data: bytes) -> str:
    return f"data:image/png;base64,{base64_of(data)}"


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
    [request] = runners["tesseract"].requests
    assert request.images == [picture(5, 2)]


async def test_parameters_in_json_are_those_of_a_form(client, runners):
    sent = {"image": data_url(picture()), "model": "qwen3_vl_2b", "prompt": "Why?", "nothing": None}
    response = await client.post("/chat", json=sent | {"temperature": 0.25, "max_tokens": 77})
    assert response.json()["prompt"] == "Why?"
    [request] = runners["qwen3_vl_2b"].requests
    assert (request.prompt, request.temperature, request.max_tokens) == ("Why?", 0.25, 77)


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
        (400, {"image": "AAA"}, NO_BASE64),
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
            "The file is not a readable image or PDF: send JPEG, PNG, BMP, TIFF, WebP or PDF.",
        ),
        (400, {"url": "https://host/a.png"}, NOT_ALLOWED),
        (413, {"image": base64_of(bytes(MIB + 1))}, "The file is larger than 1 MB."),
    ],
)
async def test_what_cannot_be_taken_is_told_why(serve, runners, status, sent, detail):
    response = await serve(max_file_mib=1).post("/chat", json=sent)
    assert (response.status_code, response.json()) == (status, {"detail": detail})
    assert not runners["tesseract"].requests


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"no json", b'{"image": NaN}', b"\xff", b"[" * 5000, rb'{"prompt": "\ud800"}'],
)
async def test_what_is_no_json_is_told_so(client, body):
    sent = {"content": body, "headers": {"Content-Type": "application/json; charset=utf-8"}}
    response = await client.post("/ocr", **sent)
    assert response.status_code == 400
    assert response.json() == {"detail": "The body is not valid JSON."}


async def test_a_url_is_fetched_where_the_operator_allows_it(client, runners, monkeypatch):
    async def fetch(self, url):
        assert url == "https://host/a.png"
        return picture(9, 9)

    monkeypatch.setattr("api.intake.fetching.Fetcher.fetch", fetch)
    response = await client.post("/ocr", json={"url": "https://host/a.png"})
    assert response.json()["text"] == "9x9"


@pytest.mark.parametrize("values", [b"[],", b'{"a":1},', b"0,", b"[[[[0]]]],"])
async def test_a_body_of_too_many_values_is_refused_before_it_is_parsed(
    client, monkeypatch, values
):
    monkeypatch.setattr("api.intake.json_bodies.from_json", None)
    body = b"[" + values * 200_001 + b"0]"
    response = await client.post("/ocr", content=body, headers={"Content-Type": JSON})
    assert response.status_code == 400
    assert response.json() == {
        "detail": "The body has more than 200000 commas and brackets: send less."
    }


async def test_while_a_body_is_parsed_others_are_answered(client, monkeypatch):
    others = threading.Event()
    parse = json_bodies.from_json

    def slowly(body, **options):
        assert others.wait(10)
        return parse(body, **options)

    monkeypatch.setattr(json_bodies, "from_json", slowly)
    asking = asyncio.create_task(client.post("/ocr", json={"image": data_url(picture(5, 2))}))
    assert (await client.get("/health")).status_code == 200
    others.set()
    assert (await asking).json()["text"] == "5x2"


class Body:
    """It arrives in chunks, and counts what was taken of it."""

    def __init__(self, chunks: Iterable[bytes], **headers: str) -> None:
        self.chunks = iter(chunks)
        self.taken = 0
        self.headers = [(k.replace("_", "-").encode(), v.encode()) for k, v in headers.items()]

    async def receive(self) -> dict:
        chunk = next(self.chunks, b"")
        self.taken += len(chunk)
        return {"type": "http.request", "body": chunk, "more_body": bool(chunk)}

    async def read(self, max_files: int = 1) -> object:
        scope = {"type": "http", "headers": self.headers, "method": "POST"}
        settings = Settings(max_file_mib=1)
        return await read_json(Request(scope, self.receive), settings, max_files)


@pytest.mark.parametrize("files", [1, 3])
async def test_a_body_over_its_limit_is_refused_while_it_arrives(files):
    body = Body([bytes(64 * 1024)] * 5000)
    with pytest.raises(Refusal) as caught:
        await body.read(files)
    assert caught.value.code is ErrorCode.TOO_LARGE
    assert body.taken < (1 + 1.4 * files) * MIB


async def test_a_declared_length_over_the_limit_is_refused_before_a_byte_is_taken():
    body = Body([b"x"] * 9, content_length=str(300 * MIB))
    with pytest.raises(Refusal) as caught:
        await body.read()
    assert caught.value.code is ErrorCode.TOO_LARGE
    assert body.taken == 0


def test_a_file_of_exactly_the_limit_is_taken():
    assert len(decoded(base64_of(bytes(MIB)), "image", Settings(max_file_mib=1))) == MIB
