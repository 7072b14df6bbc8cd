"""Calls an upstream over HTTP."""

import asyncio
import json
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager, contextmanager
from typing import Any

import aiohttp
from pydantic import SecretStr

from common.logs import request_ids
from common.units import MIB
from runners.upstream.protocol import (
    Chunk,
    ModelList,
    ServedModel,
    message_of_error,
    read_chunks,
)
from runners.upstream.refusals import broken_off, not_answering, not_understood, refusal_of

logger = logging.getLogger(__name__)

CONNECT_SECONDS = 5.0
PROBE_SECONDS = 5.0
"""Seconds in which a server that works lists its models."""
_MOST_BYTES = 16 * MIB
"""Of one line of a stream."""


class Server:
    """Calls of one upstream.

    Every call has a connection of its own, which is closed when the call is cancelled or its stream
    closed: servers of the protocol stop the work for a connection that ends.
    """

    def __init__(self, name: str, url: str, key: SecretStr | None) -> None:
        """name: of the model, for messages. url: up to `/v1`. key: an API key, if it needs one."""
        self._name = name
        self._url = url
        self._key = key

    async def models(self) -> list[ServedModel]:
        """The models that it serves. Raises `Refusal`."""
        try:
            async with asyncio.timeout(PROBE_SECONDS), self._call("GET", "models") as response:
                with self._failures_as_refusals():
                    return ModelList.model_validate_json(await response.read()).data
        except TimeoutError:
            raise not_answering(self._name) from None

    async def chat(self, body: dict[str, Any]) -> AsyncGenerator[Chunk, None]:
        """What it answers to the body of a chat completion, as it is made. Raises `Refusal`.

        The stream ends early without an exception if the server ends it so.
        """
        async with self._call("POST", "chat/completions", body) as response:
            if response.content_type != "text/event-stream":
                logger.error("%s answers with %s", self._url, response.content_type)
                raise not_understood(self._name)
            async with aclosing(read_chunks(response.content)) as chunks:
                while True:
                    with self._failures_as_refusals(has_begun=True):
                        chunk = await anext(chunks, None)
                    if chunk is None:
                        return
                    if chunk.error is not None:
                        raise refusal_of(self._name, chunk.error.status, chunk.error.message)
                    yield chunk

    @asynccontextmanager
    async def _call(
        self, method: str, path: str, body: dict[str, Any] | None = None
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """One call, which lasts while its response is read. Raises `Refusal`."""
        headers = {"Content-Type": "application/json"}
        if self._key is not None:
            headers["Authorization"] = f"Bearer {self._key.get_secret_value()}"
        if request_id := request_ids.current.get():
            headers[request_ids.HEADER] = request_id
        async with aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(None, sock_connect=CONNECT_SECONDS),
            read_bufsize=_MOST_BYTES,
            headers=headers,
        ) as session:
            with self._failures_as_refusals():
                data = None if body is None else await asyncio.to_thread(_as_json, body)
                response = await session.request(
                    method, f"{self._url}/{path}", data=data, allow_redirects=False
                )
            async with response:
                if response.status != 200:
                    with self._failures_as_refusals():
                        said = _said(await response.read())
                    retry_after = response.headers.get("Retry-After")
                    raise refusal_of(self._name, response.status, said, retry_after)
                yield response

    @contextmanager
    def _failures_as_refusals(self, has_begun: bool = False) -> Iterator[None]:
        """Turn what a call raises into a `Refusal`. has_begun: whether it has begun to answer."""
        try:
            yield
        except ValueError as error:
            logger.error("%s: %s", self._url, str(error)[:300])
            raise not_understood(self._name) from error
        except (aiohttp.ClientError, OSError) as error:
            logger.warning("%s: %r", self._url, error)
            raise (broken_off if has_begun else not_answering)(self._name) from error


def _as_json(body: dict[str, Any]) -> bytes:
    return json.dumps(body, ensure_ascii=False).encode()


def _said(body: bytes) -> str:
    """What the body of an error response says."""
    try:
        return message_of_error(json.loads(body))
    except ValueError:  # a proxy's page
        return body.decode(errors="replace")
