"""The state of the gateway's process."""

from collections.abc import Mapping
from typing import Annotated

import bentoml
from fastapi import Depends

from api.dispatch.fleet import Fleet
from api.documents.opening import Documents
from api.intake.fetching import Fetcher
from common.devices import gpu_name
from settings import Settings


class Gateway:
    """What the routes share: settings, the fleet of runners, the opener of files, the fetcher of
    URLs, and the number of accepted requests."""

    def __init__(self, runners: Mapping[str, object], settings: Settings) -> None:
        """runners: what `bentoml.depends` makes of each runner beside it, by model id."""
        self.settings = settings
        self.gpu_name = gpu_name()
        self.fleet = Fleet(runners, settings, has_gpu=self.gpu_name is not None)
        self.documents = Documents(settings)
        self.fetcher = Fetcher(settings)
        self.accepted = 0
        """Requests that were accepted and not yet answered."""


def current_gateway() -> Gateway:
    return bentoml.get_current_service().gateway


CurrentGateway = Annotated[Gateway, Depends(current_gateway)]
"""The gateway, for a route that declares it as a parameter."""
