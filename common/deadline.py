"""Keeps the moment by which a request has to be answered."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from common.failures import ErrorCode, Refusal


class Deadline:
    """The time limit of one request, made where the request comes in and handed on as it is.

    Clocks of two processes need not agree, so what crosses to another process is `left`, in
    seconds, and a new deadline is made of it there.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        """The whole limit."""
        self._end = time.monotonic() + seconds

    @property
    def passed(self) -> bool:
        return time.monotonic() >= self._end

    @property
    def left(self) -> float:
        """Seconds that are left; 0 once it has passed."""
        return max(0.0, self._end - time.monotonic())

    def check(self, late: str | None = None) -> None:
        """Raise `refusal(late)` if the deadline has passed."""
        if self.passed:
            raise self.refusal(late)

    def refusal(self, late: str | None = None) -> Refusal:
        """The `Refusal` (DEADLINE) for a request that is late.

        late: the sentence for its detail, instead of the one that names the limit.
        """
        limit = f"The request took longer than its limit of {self.seconds:g} seconds."
        return Refusal(ErrorCode.DEADLINE, late or limit)

    @asynccontextmanager
    async def bound(self, late: str | None = None, grace: float = 0.0) -> AsyncIterator[None]:
        """Cancel the block at the deadline, or `grace` seconds later, and raise `refusal(late)`.

        Do not use it around a `yield`: another task may resume the generator.
        """
        try:
            async with asyncio.timeout(self._end + grace - time.monotonic()):
                yield
        except TimeoutError:
            raise self.refusal(late) from None
