"""The two clients, `ChatVLMClient` and `AsyncChatVLMClient`: connections and retries."""

import asyncio
import time
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Callable,
    Generator,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import asynccontextmanager, contextmanager
from itertools import count
from types import TracebackType
from typing import Any, ParamSpec, Self, TypeVar, Unpack

import httpx

from chatvlm_client import calls
from chatvlm_client.answers import Batch, Chat, Done, Extraction, Health, Models, Ocr, Piece
from chatvlm_client.calls import Call, ChatOptions, ExtractOptions, File, OcrOptions
from chatvlm_client.errors import ChatVLMError, translate_transport_errors
from chatvlm_client.events import EventParser
from chatvlm_client.retries import wait_after

P = ParamSpec("P")
T = TypeVar("T")
BASE_URL = "http://localhost:8000"
TIMEOUT = 300.0
CONNECT_TIMEOUT = 10.0
CONNECTIONS = httpx.Limits(max_connections=None)


class ChatVLMClient:
    """Client of one service; a context manager that closes its connections.

    Every method raises `ChatVLMError`, whose text is one sentence, and `OSError` if a file cannot
    be read. If the service is busy and asks for another try within 60 seconds (`Retry-After`), the
    request is sent again, up to five times in all.

    timeout: longest silence of the service, seconds.
    """

    def __init__(
        self,
        base_url: str = BASE_URL,
        *,
        timeout: float = TIMEOUT,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self.base_url = base_url
        self._http = httpx.Client(**_connection(base_url, timeout), transport=transport)

    def health(self) -> Health:
        return self._answer(calls.health)

    def ocr(self, image_path: File, model: str | None = None, language: str | None = None) -> str:
        """Read an image or a document; returns its text."""
        return self.read(image_path, model=model, language=language).text

    def chat(self, image_path: File, prompt: str, model: str | None = None) -> str:
        """Ask about an image or a document; returns the text of the answer."""
        return self.ask(image_path, prompt, model=model).response

    def read(self, file: File, **options: Unpack[OcrOptions]) -> Ocr:
        """Read an image or a document; returns every field of the answer."""
        return self._answer(calls.read, file, options)

    def batch(self, files: Iterable[File], **options: Unpack[OcrOptions]) -> Batch:
        """Read several files in one request. The results are in the order of the files.

        A file that fails does not affect the others.
        """
        return self._answer(calls.batch, files, options)

    def ask(self, file: File, prompt: str, **options: Unpack[ChatOptions]) -> Chat:
        """Ask about an image or a document; returns every field of the answer."""
        return self._answer(calls.ask, file, prompt, options)

    def extract(
        self,
        file: File,
        wanted: Mapping[str, Any] | Sequence[str],
        **options: Unpack[ExtractOptions],
    ) -> Extraction:
        """Extract data from an image or a document.

        wanted: a JSON schema, or names of fields, whose values are texts or None.
        """
        return self._answer(calls.extract, file, wanted, options)

    def stream(
        self, file: File, prompt: str, **options: Unpack[ChatOptions]
    ) -> Generator[Piece | Chat, None, None]:
        """Ask, and yield the answer piece by piece, at the end the whole of it.

        Closing the generator stops the work in the service.
        """
        with self._open(calls.ask(file, prompt, options, stream=True)) as response:
            events = EventParser(response)
            for chunk in response.iter_bytes():
                yield from events.feed(chunk)
            events.end()

    def models(self) -> Models:
        return self._answer(calls.models)

    def load(self, model: str) -> Done:
        """Load a model before the first request needs it."""
        return self._answer(calls.load, model)

    def unload(self, model: str) -> Done:
        """Free a model's memory; the next request for it loads it again."""
        return self._answer(calls.unload, model)

    def close(self) -> None:
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _answer(self, build: Callable[P, Call[T]], *args: P.args, **kwargs: P.kwargs) -> T:
        call = build(*args, **kwargs)
        with self._open(call) as response:
            response.read()
            return call.parse(response)

    @contextmanager
    def _open(self, call: Call[Any]) -> Iterator[httpx.Response]:
        """Send the request, again if asked to; yields the response with its body unread."""
        with translate_transport_errors():
            for tries in count(1):
                with self._http.stream(**call.request()) as response:
                    if response.is_success:
                        yield response
                        return
                    response.read()
                time.sleep(wait_after(response, tries))


class AsyncChatVLMClient:
    """`ChatVLMClient` with the same methods as coroutines."""

    def __init__(
        self,
        base_url: str = BASE_URL,
        *,
        timeout: float = TIMEOUT,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self.base_url = base_url
        self._http = httpx.AsyncClient(**_connection(base_url, timeout), transport=transport)

    async def health(self) -> Health:
        return await self._answer(calls.health)

    async def ocr(
        self, image_path: File, model: str | None = None, language: str | None = None
    ) -> str:
        return (await self.read(image_path, model=model, language=language)).text

    async def chat(self, image_path: File, prompt: str, model: str | None = None) -> str:
        return (await self.ask(image_path, prompt, model=model)).response

    async def read(self, file: File, **options: Unpack[OcrOptions]) -> Ocr:
        return await self._answer(calls.read, file, options)

    async def batch(self, files: Iterable[File], **options: Unpack[OcrOptions]) -> Batch:
        return await self._answer(calls.batch, files, options)

    async def ask(self, file: File, prompt: str, **options: Unpack[ChatOptions]) -> Chat:
        return await self._answer(calls.ask, file, prompt, options)

    async def extract(
        self,
        file: File,
        wanted: Mapping[str, Any] | Sequence[str],
        **options: Unpack[ExtractOptions],
    ) -> Extraction:
        return await self._answer(calls.extract, file, wanted, options)

    async def stream(
        self, file: File, prompt: str, **options: Unpack[ChatOptions]
    ) -> AsyncGenerator[Piece | Chat, None]:
        call = await asyncio.to_thread(calls.ask, file, prompt, options, stream=True)
        async with self._open(call) as response:
            events = EventParser(response)
            async for chunk in response.aiter_bytes():
                for event in events.feed(chunk):
                    yield event
            events.end()

    async def models(self) -> Models:
        return await self._answer(calls.models)

    async def load(self, model: str) -> Done:
        return await self._answer(calls.load, model)

    async def unload(self, model: str) -> Done:
        return await self._answer(calls.unload, model)

    async def close(self) -> None:
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def _answer(self, build: Callable[P, Call[T]], *args: P.args, **kwargs: P.kwargs) -> T:
        call = await asyncio.to_thread(build, *args, **kwargs)  # reads files
        async with self._open(call) as response:
            await response.aread()
            return call.parse(response)

    @asynccontextmanager
    async def _open(self, call: Call[Any]) -> AsyncIterator[httpx.Response]:
        with translate_transport_errors():
            for tries in count(1):
                async with self._http.stream(**call.request()) as response:
                    if response.is_success:
                        yield response
                        return
                    await response.aread()
                await asyncio.sleep(wait_after(response, tries))


def parse_address(text: str) -> httpx.URL:
    """The base URL of a service. Raises `ChatVLMError` if the text is none."""
    try:
        url = httpx.URL(text)
    except httpx.InvalidURL:
        url = httpx.URL()
    if url.scheme not in ("http", "https") or not url.host:
        raise ChatVLMError(
            f"'{text}' is not the address of a service: use one such as http://localhost:8000."
        )
    return url


def _connection(base_url: str, timeout: float) -> dict[str, Any]:
    """Arguments of httpx's clients. Raises `ChatVLMError`."""
    return {
        "base_url": parse_address(base_url),
        "timeout": httpx.Timeout(timeout, connect=CONNECT_TIMEOUT),
        "limits": CONNECTIONS,
    }
