"""The moment by which a request has to be answered."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from common.failures import ErrorCode, Refusal


class Deadline:
    """One request's time limit, made where the request comes in and handed on as it is.

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
        """Seconds; 0 once it has passed."""
        return max(0.0, self._end - time.monotonic())

    def check(self, late: str | None = None) -> None:
        """Raises `Refusal` (DEADLINE, `late`) once it has passed."""
        if self.passed:
            raise self.refusal(late)

    def refusal(self, late: str | None = None) -> Refusal:
        """late: the sentence that says so, instead of the one that names the limit."""
        limit = f"The request took longer than its limit of {self.seconds:g} seconds."
        return Refusal(ErrorCode.DEADLINE, late or limit)

    @asynccontextmanager
    async def bound(self, late: str | None = None, grace: float = 0.0) -> AsyncIterator[None]:
        """Cancels the block at the deadline, or `grace` seconds later, as `Refusal` (DEADLINE).

        Not around a `yield`: the task that resumes a generator may be another than began the block.
        """
        try:
            async with asyncio.timeout(self._end + grace - time.monotonic()):
                yield
        except TimeoutError:
            raise self.refusal(late) from None
