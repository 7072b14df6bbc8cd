from collections.abc import AsyncIterator

import pytest

from api.formats.sse import HEADERS, stream_response
from common.failures import ErrorCode, Failure, Refusal
from common.messages import Answer, Piece, Stream
from tests.support.fakes.source import Source

ANSWER = Answer(text="A cat.", image_size=(4, 3))


async def write(stream: Stream) -> AsyncIterator[bytes]:
    async for outcome in stream:
        yield outcome.text.encode()


async def test_every_outcome_is_written_in_order():
    source = Source(Piece(text="A "), Piece(text="cat."), ANSWER)
    response = await stream_response(source.stream(), write)
    assert [chunk async for chunk in response.body_iterator] == [b"A ", b"cat.", b"A cat."]
    assert {name: response.headers[name] for name in HEADERS} == HEADERS
    assert response.media_type == "text/event-stream"
    assert source.closed


async def test_what_fails_before_the_first_outcome_is_raised_instead_of_streamed():
    full = Failure(code=ErrorCode.QUEUE_FULL, detail="The queue is full.", retry_after=3)
    with pytest.raises(Refusal) as caught:
        await stream_response(Source(full).stream(), write)
    assert caught.value.failure == full
