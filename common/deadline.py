"""A bound in time for a block of asynchronous code."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from common.messages import Refusal, Why


@asynccontextmanager
async def within(deadline: float, late: str) -> AsyncIterator[None]:
    """Cancels the block at the deadline (by `time.monotonic`), as a `Refusal` (DEADLINE, `late`).

    Not around a `yield`: the task that resumes a generator may be another than began the block.
    """
    try:
        async with asyncio.timeout(deadline - time.monotonic()):
            yield
    except TimeoutError:
        raise Refusal(Why.DEADLINE, late) from None
