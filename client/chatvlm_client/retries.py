"""When a request is sent again: after the time that the service's `Retry-After` asks for."""

import math
import time
from email.utils import parsedate_to_datetime

import httpx

from chatvlm_client.errors import error_of

MAX_TRIES = 5
MAX_WAIT = 60.0
"""Seconds. If the service asks for a longer wait, the request fails at once."""


def wait_after(response: httpx.Response, tries: int) -> float:
    """Seconds until the next try: what `Retry-After` asks for, but at least 1, 2, 4 and 8 in turn.

    response: an error, its body read. tries: made so far. Raises `ChatVLMError` if the request
    should not be sent again.
    """
    asked = _retry_after(response)
    if asked is None or asked > MAX_WAIT or tries >= MAX_TRIES:
        raise error_of(response)
    return max(asked, 2.0 ** (tries - 1))


def _retry_after(response: httpx.Response) -> float | None:
    """Seconds; None if the service does not ask for another try (RFC 9110, section 10.2.3)."""
    value = response.headers.get("retry-after")
    if response.status_code not in (429, 503) or value is None:
        return None
    if value.isdecimal():
        return float(value)
    try:
        return max(0.0, math.ceil(parsedate_to_datetime(value).timestamp() - time.time()))
    except ValueError:
        return None
