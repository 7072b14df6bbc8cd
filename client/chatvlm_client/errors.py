"""What can go wrong, in one sentence, and when to try again."""

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from email.utils import parsedate_to_datetime

import httpx
from pydantic import BaseModel, ValidationError

TRIES = 5
MAX_WAIT = 60.0
"""Seconds; a service that asks for more is not waited for."""


class ChatVLMError(Exception):
    """Its text is the service's sentence, or says why there is no answer."""

    def __init__(self, detail: str, status: int | None = None) -> None:
        super().__init__(detail)
        self.status = status
        """Of HTTP; None where nothing was answered, or a stream had begun."""


class Detail(BaseModel):
    detail: str


def wait_after(response: httpx.Response, tries: int) -> float:
    """Seconds until the next try: what `Retry-After` asks, and from try to try longer.

    response: an error, its body read. Raises `ChatVLMError` where another try is of no use.
    """
    asked = _retry_after(response)
    if asked is None or asked > MAX_WAIT or tries >= TRIES:
        raise refused(response)
    return max(asked, 2.0 ** (tries - 1))


def refused(response: httpx.Response) -> ChatVLMError:
    try:
        detail = Detail.model_validate_json(response.content).detail
    except ValidationError:
        return strange(response)
    return ChatVLMError(detail, response.status_code)


def strange(response: httpx.Response) -> ChatVLMError:
    return ChatVLMError(
        f"{_origin(response.request)} did not answer as a ChatVLMLLM service does "
        f"(status {response.status_code}): is it one?",
        response.status_code,
    )


def broken_off(request: httpx.Request) -> ChatVLMError:
    return ChatVLMError(f"{_origin(request)} broke off before its answer was complete.")


@contextmanager
def transport_errors_as_sentences() -> Iterator[None]:
    """Raises `ChatVLMError` for each error of httpx."""
    try:
        yield
    except (httpx.ConnectError, httpx.ConnectTimeout) as error:
        raise ChatVLMError(
            f"{_origin(error.request)} cannot be reached: is the service running there?"
        ) from error
    except httpx.TimeoutException as error:
        seconds = error.request.extensions["timeout"]["read"]
        raise ChatVLMError(
            f"{_origin(error.request)} did not answer within {seconds:g} seconds."
        ) from error
    except httpx.RequestError as error:
        raise broken_off(error.request) from error


def _origin(request: httpx.Request) -> str:
    return str(request.url.copy_with(raw_path=b"", username=None, password=None)).rstrip("/")


def _retry_after(response: httpx.Response) -> float | None:
    """Seconds; None where no other try is asked for (RFC 9110, section 10.2.3)."""
    value = response.headers.get("retry-after")
    if response.status_code not in (429, 503) or value is None:
        return None
    if value.isdecimal():
        return float(value)
    try:
        return max(0.0, math.ceil(parsedate_to_datetime(value).timestamp() - time.time()))
    except ValueError:
        return None
