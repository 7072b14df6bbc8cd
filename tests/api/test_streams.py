import pytest

from api.streams import wait_for_first
from common.failures import ErrorCode, Failure, Refusal
from common.messages import Answer, Piece
from tests.support.fakes.source import Source

PIECE = Piece(text="A ")
ANSWER = Answer(text="A cat.", image_size=(4, 3))


async def test_the_whole_stream_is_returned() -> None:
    stream = await wait_for_first(Source(PIECE, ANSWER).stream())
    assert [outcome async for outcome in stream] == [PIECE, ANSWER]


async def test_closing_it_closes_the_source() -> None:
    source = Source(PIECE, ANSWER)
    stream = await wait_for_first(source.stream())
    assert await anext(stream) == PIECE
    assert not source.closed
    await stream.aclose()
    assert source.closed


async def test_what_fails_before_the_first_outcome_is_raised() -> None:
    full = Failure(code=ErrorCode.QUEUE_FULL, detail="The queue is full.", retry_after=3)
    with pytest.raises(Refusal) as caught:
        await wait_for_first(Source(full).stream())
    assert caught.value.failure == full
