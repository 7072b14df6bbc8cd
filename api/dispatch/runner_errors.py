"""Turns failures of a call to a runner into refusals with a plain sentence."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import aiohttp
from bentoml.exceptions import BentoMLException

from common.catalog import current_id
from common.failures import ErrorCode, Refusal

logger = logging.getLogger(__name__)

RESTART_SECONDS = 10
"""About how long a runner that died takes to come back."""
SERVER_PREFIX = "BentoML Service/"
"""Before the service's name in the header `Server`."""


class RunnerLost(Refusal):
    """The runner cannot be reached, or its connection broke.

    may_have_started: whether the runner may have begun to work on the request.
    """

    def __init__(self, model: str, may_have_started: bool = False) -> None:
        super().__init__(
            ErrorCode.UNAVAILABLE,
            f"The runner of model '{model}' was lost while it worked on this; try again."
            if may_have_started
            else f"No runner of model '{model}' answers at the moment; try again.",
            RESTART_SECONDS,
        )
        self.may_have_started = may_have_started


@contextmanager
def failures_as_refusals(model: str, may_have_started: bool = True) -> Iterator[None]:
    """Turn what a client library raises during a call into `Refusal` or `RunnerLost`.

    may_have_started: whether a runner that is lost during the call may have begun to work on it, so
    that the call itself may be what ended it.
    """
    try:
        yield
    except (aiohttp.ClientResponseError, BentoMLException, ValueError) as error:
        if may_have_started:
            logger.error("Model %s failed on a request: %r", model, error)
        raise Refusal(
            ErrorCode.FAULT, f"Model '{model}' failed on this request; the log says why."
        ) from error
    except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
        raise RunnerLost(model) from error
    except (aiohttp.ClientError, OSError) as error:
        raise RunnerLost(model, may_have_started) from error


def check_model(model: str, server: str) -> None:
    """Refuse an answer of another model: the setting is wrong, or an address has a new owner.

    server: the response's header `Server`.

    Raises `Refusal` (UNAVAILABLE).
    """
    served = server.removeprefix(SERVER_PREFIX)
    if served != server and current_id(served) != model:
        raise Refusal(
            ErrorCode.UNAVAILABLE,
            f"'{served}' answers where CHATVLM_REMOTE has a runner of model '{model}'.",
        )
