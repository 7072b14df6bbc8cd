"""Server-sent events: the response that streams an answer while a model makes it."""

from collections.abc import AsyncIterator, Callable

from fastapi.responses import StreamingResponse

from api.streams import wait_for_first
from common.messages import Stream

EVENT_STREAM = "text/event-stream"
HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
"""Without them a proxy (nginx needs the latter) may hold events back until the last."""


async def stream_response(
    stream: Stream, write: Callable[[Stream], AsyncIterator[bytes]]
) -> StreamingResponse:
    """The response that sends what `write`, an output format, makes of the stream.

    It waits for the first piece: a `Refusal` before that is raised here, so that the response has
    its status.
    """
    return StreamingResponse(
        write(await wait_for_first(stream)), headers=HEADERS, media_type=EVENT_STREAM
    )
