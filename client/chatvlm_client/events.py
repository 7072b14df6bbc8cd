"""Parser of a streamed answer: server-sent events from chunks of bytes."""

from collections.abc import Iterator

import httpx
from pydantic import ValidationError

from chatvlm_client.answers import Chat, Piece
from chatvlm_client.errors import ChatVLMError, Detail, connection_lost, unexpected_answer


class EventParser:
    """Turns chunks of any size into the events of one streamed answer."""

    def __init__(self, response: httpx.Response) -> None:
        self._response = response
        self._rest = b""
        self._name = b""
        self._complete = False

    def feed(self, chunk: bytes) -> Iterator[Piece | Chat]:
        """Yield the events that this chunk completes.

        Raises `ChatVLMError` with the sentence of an error event, or for an unreadable event.
        """
        # Not httpx's lines: httpx also breaks lines at U+2028, which the data may contain.
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        for line in lines:
            name, _, value = line.rstrip(b"\r").partition(b": ")
            if name == b"event":
                self._name = value
            elif name == b"data":
                yield from self._event(value)

    def end(self) -> None:
        """Raises `ChatVLMError` if the stream ended before its `answer` event."""
        if not self._complete:
            raise connection_lost(self._response.request)

    def _event(self, data: bytes) -> Iterator[Piece | Chat]:
        try:
            match self._name:
                case b"piece":
                    yield Piece.model_validate_json(data)
                case b"answer":
                    self._complete = True
                    yield Chat.model_validate_json(data)
                case b"error":
                    body = Detail.model_validate_json(data)
                    raise ChatVLMError(body.detail, code=body.code)
        except ValidationError as error:
            raise unexpected_answer(self._response) from error
