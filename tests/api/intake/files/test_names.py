import aiohttp
import httpx
import pytest
import requests

from api.intake.files.multipart_forms import MultipartReader
from settings import Settings
from tests.support.sent.bodies import Body


async def name_read(body: bytes, content_type: str) -> str:
    reader = MultipartReader(Settings(), "file", 1)
    form = await reader.read(Body([body], content_type=content_type).request())
    return form.files[0].filename


def sent_by_requests(name: str) -> tuple[bytes, str]:
    sent = requests.Request("POST", "http://x", files={"file": (name, b"data")}).prepare()
    return sent.body, sent.headers["content-type"]


def sent_by_httpx(name: str) -> tuple[bytes, str]:
    sent = httpx.Request("POST", "http://x", files={"file": (name, b"data")})
    return sent.read(), sent.headers["content-type"]


NAMES = ["scan.png", "документ №1.jpg", "mein Büro.png", "文書.tiff", 'a "b" (1).png', "50%.png"]


@pytest.mark.parametrize("send", [sent_by_requests, sent_by_httpx])
@pytest.mark.parametrize("name", NAMES)
async def test_the_file_name_is_what_requests_or_httpx_was_given(send, name):
    body, content_type = send(name)
    assert await name_read(body, content_type) == name


@pytest.mark.parametrize("name", NAMES)
async def test_the_file_name_is_what_aiohttp_was_given(name):
    data = aiohttp.FormData()
    data.add_field("file", b"data", filename=name)
    body = data()
    assert await name_read(await body.as_bytes(), body.headers["content-type"]) == name


@pytest.mark.parametrize(
    ("disposition", "name"),
    [
        ('name="file"; filename="документ.jpg"'.encode(), "документ.jpg"),  # curl
        (b'name="file"; filename="a \\"b\\".jpg"', 'a "b".jpg'),  # curl before 7.81
        (b'name="file"; filename="C:\\scans\\a.jpg"', "a.jpg"),  # old browsers
        ('name="file"; filename="док.jpg"'.encode("cp1251"), "���.jpg"),  # an old console
        (b'name="file"; filename=a.jpg', "a.jpg"),
        (b'name="file"; filename=""', "file"),
        (b"name=\"file\"; filename*=UTF-8''%D1%81%20a.jpg", "с a.jpg"),
        (
            b'name="file"; filename="=?utf-8?B?0YEuanBn?="; filename*=utf-8\'\'%D1%81.jpg',  # .NET
            "с.jpg",
        ),
        (b'name="file"; filename="=?utf-8?B?0YEuanBn?="', "с.jpg"),
        (b'name="file"; filename="=?nothing?B?0YEuanBn?="', "=?nothing?B?0YEuanBn?="),
        (b'name="file"; filename="=?utf-8?B?!?="', "=?utf-8?B?!?="),
        (b'name="file"; filename="a.jpg"; filename*=nothing\'\'%D1%81.jpg', "a.jpg"),
        (b'name="file"; filename="a.jpg"; filename*=broken', "a.jpg"),
        (b'name="file"', "file"),
    ],
)
async def test_a_file_name_is_read_in_every_form(disposition, name):
    head = b"--limit\r\nContent-Disposition: form-data; %b\r\n\r\n" % disposition
    body = head + b"data\r\n--limit--\r\n"
    assert await name_read(body, "multipart/form-data; boundary=limit") == name
