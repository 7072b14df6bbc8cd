"""Streamed answers, read from server-sent events."""

from collections.abc import Callable, Iterator

import httpx
import pytest
from chatvlm_client import Chat, ChatVLMError, Piece

from tests.support.fakes.service import CHAT, async_client, client, event, fields


def streamed(*chunks: bytes) -> Callable[[httpx.Request], httpx.Response]:
    def service(request: httpx.Request) -> httpx.Response:
        assert fields(request)["stream"] == "true"
        return httpx.Response(200, content=iter(chunks))

    return service


WORDS = ["В мар\u2028те", "."]
WHOLE = {**CHAT, "response": "".join(WORDS)}
STREAM = "".join([*(event("piece", text=word) for word in WORDS), event("answer", **WHOLE)])


@pytest.mark.parametrize("size", [1, 7, 4096])
def test_a_stream_is_pieces_and_then_the_answer_in_chunks_of_any_size(size: int) -> None:
    data = STREAM.encode()
    chunks = [data[start : start + size] for start in range(0, len(data), size)]
    *pieces, last = client(streamed(*chunks)).stream(b"page", "When?")
    assert [piece.text for piece in pieces if isinstance(piece, Piece)] == WORDS
    assert isinstance(last, Chat)
    assert last.response == "".join(WORDS)


async def test_the_async_client_streams() -> None:
    async def chunks():
        yield STREAM.encode()

    service = async_client(lambda request: httpx.Response(200, content=chunks()))
    kinds = [type(event) async for event in service.stream(b"page", "When?")]
    assert kinds == [Piece, Piece, Chat]


@pytest.mark.parametrize(
    ("after", "says"),
    [
        ("", "http://service closed the connection before its answer was complete."),
        (event("error", detail="Out of memory."), "Out of memory."),
        ("event: answer\ndata: {\n\n", "check the address."),
    ],
)
def test_a_stream_that_fails_in_the_middle_is_one_sentence(after: str, says: str) -> None:
    data = event("piece", text="In") + after
    stream: Iterator[object] = client(streamed(data.encode())).stream(b"page", "When?")
    assert next(stream) == Piece(text="In")
    with pytest.raises(ChatVLMError) as raised:
        next(stream)
    assert str(raised.value).endswith(says)
