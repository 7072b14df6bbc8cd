"""The client's error: one sentence for each way in which a request can fail."""

from collections.abc import Iterator
from contextlib import contextmanager

import httpx
from pydantic import BaseModel, ValidationError


class ChatVLMError(Exception):
    """A request failed. The text is one sentence: the service's own, or why there is no answer."""

    def __init__(self, detail: str, status: int | None = None, code: str | None = None) -> None:
        super().__init__(detail)
        self.status = status
        """HTTP status; None if there was no response, or if a stream failed after its start."""
        self.code = code
        """The service's word for the kind of error; None if the service did not answer."""


class Detail(BaseModel):
    """The body of the service's error responses."""

    detail: str
    code: str | None = None


def error_of(response: httpx.Response) -> ChatVLMError:
    """The error that a response with an error status stands for; its body has been read."""
    try:
        body = Detail.model_validate_json(response.content)
    except ValidationError:
        return unexpected_answer(response)
    return ChatVLMError(body.detail, response.status_code, body.code)


def unexpected_answer(response: httpx.Response) -> ChatVLMError:
    """The error for a response that no ChatVLMLLM service sends."""
    return ChatVLMError(
        f"{_origin(response.request)} did not answer like a ChatVLMLLM service "
        f"(status {response.status_code}): check the address.",
        response.status_code,
    )


def connection_lost(request: httpx.Request) -> ChatVLMError:
    """The error for a connection that ended before the whole answer had come."""
    return ChatVLMError(f"{_origin(request)} closed the connection before its answer was complete.")


@contextmanager
def translate_transport_errors() -> Iterator[None]:
    """Raises `ChatVLMError` in place of each error of httpx."""
    try:
        yield
    except (httpx.ConnectError, httpx.ConnectTimeout) as error:
        raise ChatVLMError(
            f"{_origin(error.request)} cannot be reached: check that the service is running there."
        ) from error
    except httpx.TimeoutException as error:
        seconds = error.request.extensions["timeout"]["read"]
        raise ChatVLMError(
            f"{_origin(error.request)} did not answer within {seconds:g} seconds."
        ) from error
    except httpx.RequestError as error:
        raise connection_lost(error.request) from error


def _origin(request: httpx.Request) -> str:
    return str(request.url.copy_with(raw_path=b"", username=None, password=None)).rstrip("/")
