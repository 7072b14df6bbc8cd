import asyncio
import json
import threading

import pytest

from api.intake import json_bodies
from api.intake.json_bodies import JSON, read_json
from common.failures import ErrorCode, Refusal
from common.units import MIB
from settings import Settings
from tests.support.fakes.runner import data_url, picture
from tests.support.sent.bodies import Body


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"no json", b'{"image": NaN}', b"\xff", b"[" * 5000, rb'{"prompt": "\ud800"}'],
)
async def test_what_is_no_json_is_told_so(client, body):
    sent = {"content": body, "headers": {"Content-Type": "application/json; charset=utf-8"}}
    response = await client.post("/ocr", **sent)
    assert response.status_code == 400
    assert response.json()["detail"] == "The body is not valid JSON."


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
async def test_a_byte_order_mark_is_passed_over(client, encoding):
    body = json.dumps({"image": data_url(picture(5, 2))}).encode(encoding)
    response = await client.post("/ocr", content=body, headers={"Content-Type": JSON})
    assert response.json()["text"] == "5x2"


@pytest.mark.parametrize("content_type", ["text/plain", "", "multipart/form-data; boundary=x"])
async def test_a_body_of_another_content_type_is_refused_unread(content_type):
    body = Body([b"{}"], content_type=content_type)
    with pytest.raises(Refusal) as caught:
        await read(body)
    assert caught.value.code is ErrorCode.UNSUPPORTED_TYPE
    assert body.taken == 0


@pytest.mark.parametrize("values", [b"[],", b'{"a":1},', b"0,", b"[[[[0]]]],"])
async def test_a_body_of_too_many_values_is_refused_before_it_is_parsed(
    client, monkeypatch, values
):
    monkeypatch.setattr("api.intake.json_bodies.from_json", None)
    body = b"[" + values * 200_001 + b"0]"
    response = await client.post("/ocr", content=body, headers={"Content-Type": JSON})
    assert response.status_code == 400
    assert response.json()["detail"] == (
        "The body has more than 200000 commas and brackets: send less."
    )


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


async def read(body: Body, max_files: int = 1) -> object:
    return await read_json(body.request(), Settings(max_file_mib=1), max_files)


@pytest.mark.parametrize("files", [1, 3])
async def test_a_body_over_its_limit_is_refused_while_it_arrives(files):
    body = Body([bytes(64 * 1024)] * 5000, content_type=JSON)
    with pytest.raises(Refusal) as caught:
        await read(body, files)
    assert caught.value.code is ErrorCode.TOO_LARGE
    assert body.taken < (1 + 1.4 * files) * MIB


async def test_a_declared_length_over_the_limit_is_refused_before_a_byte_is_taken():
    body = Body([b"x"] * 9, content_length=str(300 * MIB), content_type=JSON)
    with pytest.raises(Refusal) as caught:
        await read(body)
    assert caught.value.code is ErrorCode.TOO_LARGE
    assert body.taken == 0
