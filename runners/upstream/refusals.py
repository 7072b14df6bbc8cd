"""Says of an upstream that does not answer a request why, as a `Refusal`."""

import logging
import re

from common.failures import ErrorCode, Refusal

logger = logging.getLogger(__name__)

RESTART_SECONDS = 10
"""Seconds after which a server that does not answer is worth another try."""
_MOST_SECONDS = 3600
_LONGEST_LOGGED = 300
_TOO_LONG = re.compile(
    r"context.{0,3}(length|window)|max_model_len|maximum (model|context) length|longer than|"
    r"too long|max_position|token count exceeds",
    re.IGNORECASE,
)
"""How vLLM, SGLang, LMDeploy and OpenAI say that a prompt with its answer is too long."""


class TooLong(Refusal):
    """Raised if a prompt with the longest answer that was asked for is longer than it may be."""


class NotKnown(Refusal):
    """Raised if the upstream does not know the model, or the path."""


def refusal_of(name: str, status: int, said: str, retry_after: str | None = None) -> Refusal:
    """Why the upstream refused a request.

    name: of the model. status: of its HTTP response. said: what it says about it, which is logged
    and not answered. retry_after: the header.
    """
    logger.warning("The server that runs %s: %d %s", name, status, said[:_LONGEST_LOGGED])
    server = f"The server that runs {name}"
    match status:
        case 401 | 403:
            return Refusal(
                ErrorCode.UNAVAILABLE,
                f"{server} does not take this service's key: CHATVLM_UPSTREAM_KEYS has to name one "
                "that it takes.",
            )
        case 301 | 302 | 307 | 308 | 404 | 405:
            return NotKnown(
                ErrorCode.UNAVAILABLE,
                f"{server} does not know what it is asked for: the address in CHATVLM_UPSTREAM has "
                "to be that of OpenAI's protocol, which mostly ends in /v1.",
            )
        case 413:
            return Refusal(
                ErrorCode.TOO_LARGE,
                f"{server} takes no request of this size: send smaller or fewer images.",
            )
        case 400 | 422 if _TOO_LONG.search(said):
            return TooLong(
                ErrorCode.BAD_PARAMETER,
                f"The request and its answer are longer than what the server that runs {name} "
                "takes: send smaller or fewer images, less text, or a smaller max_tokens.",
            )
        case 400 | 422:
            return Refusal(
                ErrorCode.BAD_PARAMETER, f"{server} does not take this request; the log says why."
            )
        case 429 | 503:
            return Refusal(
                ErrorCode.QUEUE_FULL,
                f"{server} has too many requests; try again later.",
                _seconds(retry_after),
            )
        case 502 | 504:
            return not_answering(name)
    return Refusal(ErrorCode.FAULT, f"{server} failed on this request; the log says why.")


def not_answering(name: str) -> Refusal:
    return Refusal(
        ErrorCode.UNAVAILABLE,
        f"The server that runs {name} does not answer at the moment; try again.",
        RESTART_SECONDS,
    )


def broken_off(name: str) -> Refusal:
    return Refusal(
        ErrorCode.UNAVAILABLE,
        f"The server that runs {name} broke off while it answered this; try again.",
        RESTART_SECONDS,
    )


def not_understood(name: str) -> Refusal:
    return Refusal(
        ErrorCode.FAULT,
        f"The server that runs {name} does not answer in OpenAI's protocol; the log says more.",
    )


def _seconds(retry_after: str | None) -> int:
    """The seconds of the header, which may also be absent or a date."""
    if retry_after is None or not retry_after.strip().isdecimal():
        return RESTART_SECONDS
    return min(max(int(retry_after), 1), _MOST_SECONDS)
