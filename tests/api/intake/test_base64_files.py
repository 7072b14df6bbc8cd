import base64
import re

import pytest

from api.intake import base64_files
from common.failures import ErrorCode, Refusal
from common.units import MIB
from settings import Settings
from tests.support.fakes.runner import base64_of, data_url


async def decode(text: str) -> bytes:
    return await base64_files.decode(text, "image", Settings(max_file_mib=1))


@pytest.mark.parametrize(
    "text",
    [
        base64_of(b"page"),
        data_url(b"page"),
        f"data:;base64,{base64_of(b'page')}",
        f"DATA:image/png;name=a.png;BASE64,{base64_of(b'page')}",
        base64.encodebytes(b"page").decode(),
        base64_of(b"page").rstrip("="),
        f'"{base64_of(b"page")}"',
        " ".join(base64_of(b"page")),
    ],
)
async def test_base64_and_data_urls_hold_a_file(text):
    assert await decode(text) == b"page"


@pytest.mark.parametrize(
    ("text", "detail"),
    [
        ("no base64!", "Parameter 'image': it is neither base64 nor a data: URL."),
        ("AAAAA", "Parameter 'image': it is neither base64 nor a data: URL."),
        ("data:image/png,abc", "Parameter 'image': a data: URL has to hold base64."),
    ],
)
async def test_other_text_is_refused_by_the_name_of_its_parameter(text, detail):
    with pytest.raises(Refusal, match=re.escape(detail)) as caught:
        await decode(text)
    assert caught.value.code is ErrorCode.BAD_PARAMETER


async def test_a_file_of_exactly_the_limit_is_taken():
    assert len(await decode(base64_of(bytes(MIB)))) == MIB


@pytest.mark.parametrize("size", [MIB + 1, 3 * MIB])
async def test_a_larger_file_is_refused(size):
    with pytest.raises(Refusal, match="The file is larger than 1 MB") as caught:
        await decode(data_url(bytes(size)))
    assert caught.value.code is ErrorCode.TOO_LARGE


async def test_base64_of_urls_is_taken():
    data = bytes(range(256))
    assert {"-", "_"} <= set(base64.urlsafe_b64encode(data).decode())
    assert await decode(base64.urlsafe_b64encode(data).decode()) == data


@pytest.mark.parametrize(
    ("text", "is_one"),
    [
        ("https://host/data:", True),
        (" FILE:///etc/passwd", True),
        ("data:,", False),
        ("DATA:image/png;base64,AA//", False),
        ("http", False),
        ("iVBORw0KGgo=", False),
    ],
)
def test_an_address_is_told_by_its_scheme(text, is_one):
    assert base64_files.is_address(text) is is_one
