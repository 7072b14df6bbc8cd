"""What the log says of the request that is being answered."""

from contextvars import ContextVar
from dataclasses import dataclass


@dataclass
class RequestRecord:
    """What the log says of a request, filled in while it is answered."""

    route: str = ""
    """The path of the route, as `/models/{name}`; empty if there is none."""
    model: str = ""
    pages: int = 0
    """Pages and images that were read or looked at."""
    tokens: int = 0
    """Tokens of the answers."""
    reason: str = ""
    """Why the request was refused."""


current: ContextVar[RequestRecord | None] = ContextVar("request_record", default=None)


def current_record() -> RequestRecord:
    """The record of the request that is being answered; one that nobody reads outside of it."""
    return current.get() or RequestRecord()
