"""The id of the request that is being answered, in the gateway and in a runner."""

import re
import uuid
from contextvars import ContextVar

HEADER = "X-Request-ID"
_USABLE = re.compile(r"[\x21-\x7e]{1,128}", re.ASCII)

current: ContextVar[str] = ContextVar("request_id", default="")
"""Empty outside of a request."""


def accept(sent: str | None) -> str:
    """The id that a client sent, if it can stand in a log and a header; otherwise a new one."""
    return sent if sent and _USABLE.fullmatch(sent) else uuid.uuid4().hex
