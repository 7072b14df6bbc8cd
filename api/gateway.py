"""What every route depends on: the gateway's state, and the limits on requests."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Annotated

import bentoml
from fastapi import Depends

from api.dispatch.fleet import Fleet
from api.documents.opening import Documents
from api.intake.fetching import Fetcher
from common.deadline import Deadline
from common.devices import gpu_name
from common.failures import ErrorCode, Refusal
from settings import Settings

DEADLINE_GRACE = 1.0
"""Seconds by which the gateway waits longer than the deadline that it hands to a runner, so that
the runner has stopped its work when the gateway answers."""


class Gateway:
    """The state of the gateway's process: its runners, its documents, its requests in flight."""

    def __init__(self, runners: Mapping[str, object], settings: Settings) -> None:
        """runners: clients that `bentoml.depends` makes of the runners beside it, by model id."""
        self.settings = settings
        self.gpu_name = gpu_name()
        self.fleet = Fleet(runners, settings, has_gpu=self.gpu_name is not None)
        self.documents = Documents(settings)
        self.fetcher = Fetcher(settings)
        self.in_flight = 0


def current_gateway() -> Gateway:
    return bentoml.get_current_service().gateway


CurrentGateway = Annotated[Gateway, Depends(current_gateway)]


async def _limit_request(gateway: CurrentGateway) -> AsyncIterator[Deadline]:
    """Counts a request as in flight until its response is sent, and bounds its time.

    Raises `Refusal`: QUEUE_FULL at once, DEADLINE when its time is up.
    """
    if gateway.in_flight >= gateway.settings.max_requests:
        raise Refusal(
            ErrorCode.QUEUE_FULL,
            "The service is at its limit of requests; try again.",
            retry_after=1,
        )
    gateway.in_flight += 1
    deadline = Deadline(gateway.settings.request_timeout)
    try:
        # Not `Deadline.bound`, which may not surround a `yield`. FastAPI resumes this in one task.
        async with asyncio.timeout(deadline.seconds + DEADLINE_GRACE):
            yield deadline
    except TimeoutError as error:
        raise deadline.refusal() from error
    finally:
        gateway.in_flight -= 1


RequestDeadline = Annotated[Deadline, Depends(_limit_request)]
"""The request's deadline, for a route whose requests in flight are limited."""
