"""Brings the tokens of streams from the batcher's thread to an event loop."""

import asyncio


class TokenStreams:
    """Collects the tokens that a step makes, and wakes the event loop once for all of them.

    A wake-up for every token would take the decode loop several times as long as all that it does
    besides for a row.
    """

    def __init__(self) -> None:
        self._made: list[_Made] = []

    def open(self) -> "TokenStream":
        """A stream whose tokens are read in the running event loop."""
        return TokenStream(self._made, asyncio.get_running_loop())

    def deliver(self) -> None:
        """Deliver what was added. For the batcher's thread, after each step."""
        if not self._made:
            return
        made = self._made.copy()
        self._made.clear()
        for loop in {stream.loop for stream, _, _ in made}:
            own = [item for item in made if item[0].loop is loop]
            loop.call_soon_threadsafe(_deliver, own)


class TokenStream:
    """The tokens of one request: of one row, or of several."""

    def __init__(self, made: "list[_Made]", loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.tokens: asyncio.Queue[tuple[int, int | None]] = asyncio.Queue()
        """Delivered tokens with the numbers of their rows, to be read in the loop; None after the
        last of a row."""
        self._made = made

    def add(self, token: int, row: int = 0) -> None:
        """Add a token, in the batcher's thread; `TokenStreams.deliver` delivers it."""
        self._made.append((self, row, token))

    def end(self, row: int = 0) -> None:
        """End the tokens of a row, in the loop."""
        self.tokens.put_nowait((row, None))


_Made = tuple[TokenStream, int, int]
"""A stream, the number of a row in it, and a token of that row."""


def _deliver(made: list[_Made]) -> None:
    for stream, row, token in made:
        stream.tokens.put_nowait((row, token))
