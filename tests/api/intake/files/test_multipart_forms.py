import tempfile
from collections.abc import Iterable
from itertools import chain, repeat

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.intake.files.multipart_forms import (
    MAX_FIELD_BYTES,
    MAX_FIELDS,
    MultipartReader,
    UploadForm,
)
from common.failures import ErrorCode, Refusal
from common.units import MIB
from settings import Settings
from tests.support.fakes.runner import picture
from tests.support.sent.bodies import Body

MULTIPART = "multipart/form-data; boundary=limit"
END = b"--limit--\r\n"


class MultipartBody(Body):
    def __init__(self, chunks: Iterable[bytes], content_type: str = MULTIPART, **headers: str):
        super().__init__(chunks, content_type=content_type, **headers)

    async def read(self, field: str = "file", max_files: int = 1, **settings) -> UploadForm:
        reader = MultipartReader(Settings(**settings), field, max_files)
        return await reader.read(self.request())


def part(data: bytes, disposition: bytes = b'name="file"; filename="a.png"') -> bytes:
    return b"--limit\r\nContent-Disposition: form-data; %b\r\n\r\n%b\r\n" % (disposition, data)


async def refusal(body: MultipartBody, *args, **settings) -> tuple[ErrorCode, str]:
    with pytest.raises(Refusal) as caught:
        await body.read(*args, **settings)
    return caught.value.code, caught.value.failure.detail


@pytest.mark.parametrize("size", [1, 7, 1000, MIB])
async def test_a_form_is_the_same_however_its_bytes_are_cut(size):
    sent = part(b"\r\n--limi" * 300) + part("рус".encode(), b'name="language"') + END
    form = await MultipartBody(sent[at : at + size] for at in range(0, len(sent), size)).read()
    assert form.files[0].data == b"\r\n--limi" * 300
    assert form.files[0].filename == "a.png"
    assert form.fields == [("language", "рус")]


async def test_a_file_of_exactly_the_limit_is_taken_and_one_byte_more_is_not():
    form = await MultipartBody([part(b"x" * MIB), END]).read(max_file_mib=1)
    assert len(form.files[0].data) == MIB
    code, detail = await refusal(MultipartBody([part(b"x" * (MIB + 1)), END]), max_file_mib=1)
    assert code == ErrorCode.TOO_LARGE
    assert detail == "The file is larger than 1 MB."


async def test_a_file_of_300_mb_is_refused_once_the_limit_has_arrived():
    chunk = b"x" * 64 * 1024
    body = MultipartBody(chain([part(b"")[:-2]], repeat(chunk, 300 * 16)))
    code, _ = await refusal(body)
    assert code == ErrorCode.TOO_LARGE
    assert body.taken <= Settings().max_file_bytes + 2 * len(chunk)


async def test_a_batch_of_300_mb_is_refused_once_the_limit_of_all_files_has_arrived():
    body = MultipartBody(repeat(part(b"x" * 64 * 1024, b'name="files"; filename="a"'), 300 * 16))
    assert (await refusal(body, "files", 10))[0] == ErrorCode.BAD_PARAMETER  # the eleventh file
    assert body.taken < MIB
    body = MultipartBody(repeat(b"x" * 64 * 1024, 300 * 16))  # nothing but a preamble
    assert (await refusal(body, "files", 3, max_file_mib=1))[0] == ErrorCode.TOO_LARGE
    assert body.taken <= 5 * MIB


async def test_a_declared_length_over_the_limit_is_refused_before_a_byte_is_taken():
    body = MultipartBody(repeat(b"x", 9), content_length=str(300 * MIB))
    assert (await refusal(body))[0] == ErrorCode.TOO_LARGE
    assert body.taken == 0


@pytest.mark.parametrize("length", ["10", "-1", "many", "¹"])
async def test_a_declared_length_that_lies_does_not_lift_the_limit(length):
    body = MultipartBody([part(b"x" * 2 * MIB), END], content_length=length)
    assert (await refusal(body, max_file_mib=1))[0] == ErrorCode.TOO_LARGE


async def test_an_upload_is_never_put_on_disk(client, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", "/nonexistent")
    page = picture(1500, 1500, "BMP")
    assert len(page) > 6 * MIB
    response = await client.post("/ocr", files={"file": page})
    assert response.json()["text"] == "1500x1500"


async def test_one_file_too_large_fails_alone_among_several():
    files = [b"first", b"x" * (MIB + 1), b"last"]
    sent = [part(data, b'name="files"; filename="a"') for data in files]
    form = await MultipartBody([*sent, END]).read("files", 10, max_file_mib=1)
    assert [file.data for file in form.files] == [b"first", b"", b"last"]
    assert [file.failure and file.failure.code for file in form.files] == [
        None,
        ErrorCode.TOO_LARGE,
        None,
    ]


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"no form at all",
        part(b"cut short"),
        part(b"cut in the boundary") + b"--lim",
        b"--limit\r\nno header\r\n\r\ndata\r\n" + END,
        part(b"").replace(b"\r\n", b"\n") + END,
        b"--limit\r\nX: " + b"x" * 10_000,
    ],
)
async def test_a_broken_form_is_refused(sent):
    assert await refusal(MultipartBody([sent])) == (
        ErrorCode.BAD_PARAMETER,
        "The form is broken or incomplete: it is not valid multipart/form-data.",
    )


@pytest.mark.parametrize(
    ("content_type", "sent"),
    [
        (MULTIPART, END),
        (MULTIPART, part(b"ru", b'name="language"') + END),
        (MULTIPART, part(b"nameless", b"") + END),
        ("multipart/form-data; boundary=other", part(b"data") + b"\r\n--other--\r\n"),
        ("multipart/form-data", part(b"data") + END),
    ],
)
async def test_a_request_without_a_file_is_told_where_to_send_it(content_type, sent):
    assert await refusal(MultipartBody([sent], content_type)) == (
        ErrorCode.BAD_PARAMETER,
        "The request has no file: send one as multipart/form-data in the field 'file'.",
    )


async def test_a_file_in_another_field_is_named():
    body = MultipartBody([part(b"data", b'name="image"; filename="a"'), END])
    _, detail = await refusal(body)
    assert detail == "Unexpected file in field 'image': send it as 'file'."


@pytest.mark.parametrize("field", ["file", "files", "file[]", "files[]"])
@pytest.mark.parametrize("file_field", ["file", "files"])
async def test_a_file_may_be_in_the_field_of_one_or_of_several(field, file_field):
    sent = part(b"data", f'name="{field}"; filename="a.png"'.encode())
    form = await MultipartBody([sent, END]).read(file_field)
    assert [(file.filename, file.data) for file in form.files] == [("a.png", b"data")]


async def test_more_files_than_the_limit_are_refused():
    body = MultipartBody([part(b"one"), part(b"two"), END])
    _, detail = await refusal(body)
    assert detail == "Field 'file' takes at most one file: send fewer."


async def test_a_text_field_has_a_limit_of_its_own():
    field = b'name="prompt"'
    form = await MultipartBody([part(b"x"), part(b"y" * MAX_FIELD_BYTES, field), END]).read()
    assert len(form.fields[0][1]) == MAX_FIELD_BYTES
    _, detail = await refusal(MultipartBody([part(b"y" * (MAX_FIELD_BYTES + 1), field), END]))
    assert detail == f"Parameter 'prompt' is longer than {MAX_FIELD_BYTES} bytes."


async def test_a_flood_of_fields_is_refused():
    body = MultipartBody([part(b"", b'name="a"')] * (MAX_FIELDS + 2))
    assert (await refusal(body))[0] == ErrorCode.BAD_PARAMETER


async def test_a_text_field_that_is_not_utf_8_is_refused():
    body = MultipartBody([part("рус".encode("cp1251"), b'name="language"'), END])
    assert await refusal(body) == (
        ErrorCode.BAD_PARAMETER,
        "Parameter 'language' is not UTF-8 text.",
    )


@given(st.lists(st.binary() | st.sampled_from([part(b"x"), part(b"", b"name=a"), END, b"\r\n"])))
async def test_whatever_arrives_is_a_form_or_a_refusal(chunks):
    try:
        form = await MultipartBody(chunk for chunk in chunks if chunk).read()
    except Refusal:
        return
    assert len(form.files) == 1
