"""What every route needs: the gateway behind it, and the request's limits on time and number."""

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
"""Seconds; a runner's own deadline comes first, so that its work has stopped when we answer."""


class Gateway:
    """One process's hold on the runners and on the requests in flight."""

    def __init__(self, runners: Mapping[str, object], settings: Settings) -> None:
        """runners: what `bentoml.depends` makes of those beside it, by model id."""
        self.settings = settings
        self.gpu_name = gpu_name()
        self.fleet = Fleet(runners, settings, has_gpu=self.gpu_name is not None)
        self.documents = Documents(settings)
        self.fetcher = Fetcher(settings)
        self.in_flight = 0


def _current() -> Gateway:
    return bentoml.get_current_service().gateway


Current = Annotated[Gateway, Depends(_current)]


async def _admit(gateway: Current) -> AsyncIterator[Deadline]:
    """One request's stay, until its response is sent.

    Raises `Refusal`: QUEUE_FULL at once, DEADLINE when time is up.
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
        # Not `deadline.bound`, which may not surround a `yield`: here one task enters and leaves.
        async with asyncio.timeout(deadline.seconds + DEADLINE_GRACE):
            yield deadline
    except TimeoutError as error:
        raise deadline.refusal() from error
    finally:
        gateway.in_flight -= 1


Admitted = Annotated[Deadline, Depends(_admit)]
