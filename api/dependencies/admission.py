"""Limits how many requests are accepted, and the time of each."""

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import Depends

from api.gateway import CurrentGateway
from common.deadline import Deadline
from common.failures import ErrorCode, Refusal

DEADLINE_GRACE = 1.0
"""Seconds by which the gateway waits longer than the deadline that it hands to a runner, so that
the runner has stopped its work when the gateway answers."""


async def _limit_request(gateway: CurrentGateway) -> AsyncIterator[Deadline]:
    """Counts a request as accepted until its response is sent, and bounds its time.

    Raises `Refusal`: QUEUE_FULL at once, or DEADLINE when the time is up.
    """
    if gateway.accepted >= gateway.settings.max_requests:
        raise Refusal(
            ErrorCode.QUEUE_FULL,
            "The service is at its limit of requests; try again.",
            retry_after=1,
        )
    gateway.accepted += 1
    deadline = Deadline(gateway.settings.request_timeout)
    try:
        # Not `Deadline.bound`, which may not surround a `yield`. FastAPI resumes this in one task.
        async with asyncio.timeout(deadline.seconds + DEADLINE_GRACE):
            yield deadline
    except TimeoutError as error:
        raise deadline.refusal() from error
    finally:
        gateway.accepted -= 1


RequestDeadline = Annotated[Deadline, Depends(_limit_request)]
"""The request's deadline, for a route whose requests are limited. Declaring it, or a form, is what
limits them."""
