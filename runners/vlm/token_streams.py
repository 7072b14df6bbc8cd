"""Brings the tokens of streams from the batcher's thread to an event loop."""

import asyncio


class TokenStreams:
    """Collects the tokens that a step makes, and wakes the event loop once for all of them.

    A wake-up for every token would take the decode loop several times as long as all that it does
    besides for a row.
    """

    def __init__(self) -> None:
        self._made: list[tuple[TokenStream, int]] = []

    def open(self) -> "TokenStream":
        """A stream whose tokens are read in the running event loop."""
        return TokenStream(self._made, asyncio.get_running_loop())

    def deliver(self) -> None:
        """Deliver what was added. For the batcher's thread, after each step."""
        if not self._made:
            return
        made = self._made.copy()
        self._made.clear()
        for loop in {stream.loop for stream, _ in made}:
            own = [item for item in made if item[0].loop is loop]
            loop.call_soon_threadsafe(_deliver, own)


class TokenStream:
    """The tokens of one row."""

    def __init__(
        self, made: "list[tuple[TokenStream, int]]", loop: asyncio.AbstractEventLoop
    ) -> None:
        self.loop = loop
        self.tokens: asyncio.Queue[int | None] = asyncio.Queue()
        """Delivered tokens, to be read in the loop; None after the last."""
        self._made = made

    def add(self, token: int) -> None:
        """Add a token, in the batcher's thread; `TokenStreams.deliver` delivers it."""
        self._made.append((self, token))

    def end(self) -> None:
        """End the stream, in the loop."""
        self.tokens.put_nowait(None)


def _deliver(made: list[tuple[TokenStream, int]]) -> None:
    for stream, token in made:
        stream.tokens.put_nowait(token)
