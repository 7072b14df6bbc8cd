import gzip
import zlib

import pytest

from api.intake.body import FORM_OVERHEAD_BYTES, read_chunks
from common.failures import ErrorCode, Refusal
from common.units import MIB
from settings import Settings
from tests.support.sent.bodies import Body


async def read(body: Body, max_files: int) -> bytes:
    chunks = read_chunks(body.request(), Settings(max_file_mib=1), max_files, max_files * MIB)
    return b"".join([chunk async for chunk in chunks])


@pytest.mark.parametrize("files", [1, 3])
async def test_a_body_of_exactly_its_limit_is_taken(files):
    size = files * MIB + FORM_OVERHEAD_BYTES
    assert len(await read(Body([bytes(MIB)] * (size // MIB)), files)) == size


@pytest.mark.parametrize(
    ("files", "detail"),
    [
        (1, "The file is larger than 1 MB."),
        (
            3,
            "The request is larger than 3 files of 1 MB each: send fewer or smaller files.",
        ),
    ],
)
@pytest.mark.parametrize("declared", [True, False])
async def test_a_larger_body_is_refused_with_the_limit_of_its_files(files, detail, declared):
    length = {"content_length": str(300 * MIB)} if declared else {}
    body = Body([bytes(MIB)] * 300, **length)
    with pytest.raises(Refusal) as caught:
        await read(body, files)
    assert (caught.value.code, caught.value.failure.detail) == (ErrorCode.TOO_LARGE, detail)
    assert body.taken == (0 if declared else (files + 2) * MIB)


@pytest.mark.parametrize(
    ("encoding", "pack"),
    [("gzip", gzip.compress), ("x-gzip", gzip.compress), ("Deflate", zlib.compress)],
)
@pytest.mark.parametrize("cut", [1, 1000, MIB])
async def test_an_encoded_body_is_unpacked(encoding, pack, cut):
    sent = bytes(range(256)) * 3000
    packed = pack(sent)
    chunks = [packed[at : at + cut] for at in range(0, len(packed), cut)]
    assert await read(Body(chunks, content_encoding=encoding), 1) == sent


async def test_an_encoded_body_is_refused_once_its_limit_is_unpacked():
    bomb = gzip.compress(bytes(300 * MIB))
    with pytest.raises(Refusal) as caught:
        await read(Body([bomb], content_encoding="gzip"), 1)
    assert caught.value.code == ErrorCode.TOO_LARGE


@pytest.mark.parametrize(
    "sent",
    [b"no gzip", gzip.compress(b"x" * 100)[:-9], gzip.compress(b"x") + b"more", b""],
)
async def test_a_body_that_is_not_in_its_encoding_is_refused(sent):
    with pytest.raises(Refusal, match="not complete gzip") as caught:
        await read(Body([sent], content_encoding="gzip"), 1)
    assert caught.value.code == ErrorCode.BAD_PARAMETER


@pytest.mark.parametrize("encoding", ["br", "zstd", "gzip, br"])
async def test_an_encoding_that_is_not_decoded_is_named(encoding):
    with pytest.raises(Refusal, match=f"encoded as '{encoding}'") as caught:
        await read(Body([b"x"], content_encoding=encoding), 1)
    assert caught.value.code == ErrorCode.UNSUPPORTED_TYPE
