"""Waits for the first piece of a stream, so that an error before it still has its HTTP status."""

from contextlib import aclosing

from common.messages import Answer, Piece, Stream


async def wait_for_first(stream: Stream) -> Stream:
    """Waits for the first outcome, and returns the whole stream with that outcome in it.

    What the stream raises instead of a first outcome is raised here.
    """
    return _joined(await anext(stream), stream)


async def _joined(first: Piece | Answer, rest: Stream) -> Stream:
    async with aclosing(rest):
        yield first
        async for outcome in rest:
            yield outcome
