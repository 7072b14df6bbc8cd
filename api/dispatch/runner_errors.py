"""Failures of a runner's call, turned into refusals with a plain sentence."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import aiohttp
from bentoml.exceptions import BentoMLException

from common.failures import ErrorCode, Refusal

logger = logging.getLogger(__name__)

RESTART_SECONDS = 10
"""What a runner that died takes to come back, about."""
SERVER_PREFIX = "BentoML Service/"
"""Before the service's name in the header `Server`."""


class RunnerLost(Refusal):
    """The runner cannot be reached, or its connection broke.

    at_work: the runner may have begun to work on the request.
    """

    def __init__(self, model: str, at_work: bool = False) -> None:
        super().__init__(
            ErrorCode.UNAVAILABLE,
            f"The runner of model '{model}' was lost while it worked on this; try again."
            if at_work
            else f"No runner of model '{model}' answers at the moment; try again.",
            RESTART_SECONDS,
        )
        self.at_work = at_work


@contextmanager
def failures_as_refusals(model: str, at_work: bool = True) -> Iterator[None]:
    """Turn what a client library raises during a call into `Refusal` or `RunnerLost`.

    at_work: whether the call makes the runner work, so that its loss may be the call's doing.
    """
    try:
        yield
    except (aiohttp.ClientResponseError, BentoMLException, ValueError) as error:
        if at_work:
            logger.error("Model %s failed on a request: %r", model, error)
        raise Refusal(
            ErrorCode.FAULT, f"Model '{model}' failed on this request; the log says why."
        ) from error
    except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
        raise RunnerLost(model) from error
    except (aiohttp.ClientError, OSError) as error:
        raise RunnerLost(model, at_work) from error


def check_model(model: str, server: str) -> None:
    """Refuse an answer of another model: the setting is wrong, or an address has a new owner.

    server: the response's header `Server`.

    Raises `Refusal` (UNAVAILABLE).
    """
    served = server.removeprefix(SERVER_PREFIX)
    if served != server and served != model:
        raise Refusal(
            ErrorCode.UNAVAILABLE,
            f"'{served}' answers where CHATVLM_REMOTE has a runner of model '{model}'.",
        )
