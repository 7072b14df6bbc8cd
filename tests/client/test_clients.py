"""The two clients: what they send, what they make of answers, and of what is none."""

import inspect
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import httpx
import pytest
from chatvlm_client import (
    AsyncChatVLMClient,
    Chat,
    ChatVLMClient,
    ChatVLMError,
    PageError,
    Piece,
    retries,
)

from tests.support.fake_service import (
    OCR,
    async_client,
    client,
    document,
    event,
    fields,
    page,
    refusal,
)

CHAT = {"response": "In March.", "model": "tesseract", "processing_time": 0.5, "prompt": "When?"}
BUSY = "Too many pages wait for the reader."


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds that the client would have slept."""
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    monkeypatch.setattr("chatvlm_client.clients.time.sleep", slept.append)
    monkeypatch.setattr("chatvlm_client.clients.asyncio.sleep", sleep)
    return slept


def answers(*responses: httpx.Response) -> Callable[[httpx.Request], httpx.Response]:
    """One after the other."""
    left = iter(responses)
    return lambda request: next(left)


def methods(kind: type) -> dict[str, str]:
    return {
        name: str(inspect.signature(value)).partition(" -> ")[0]
        for name, value in vars(kind).items()
        if not name.startswith("_")
    }


def test_the_awaited_client_has_the_same_methods() -> None:
    assert methods(AsyncChatVLMClient) == methods(ChatVLMClient)


def test_a_file_goes_by_its_name_and_only_what_is_asked_for_beside_it(tmp_path: Path) -> None:
    scan = tmp_path / "scan.png"
    scan.write_bytes(b"a page")

    def service(request: httpx.Request) -> httpx.Response:
        assert (request.method, request.url.path) == ("POST", "/ocr")
        assert fields(request) == {"file": "scan.png", "language": "ru", "box": "1,2,3,4"}
        return httpx.Response(200, json=OCR)

    answer = client(service).read(scan, language="ru", box=(1, 2, 3, 4), model=None)
    assert answer.image_size == (800, 600)


def test_the_guides_methods_give_the_text() -> None:
    with client(answers(httpx.Response(200, json=OCR), httpx.Response(200, json=CHAT))) as service:
        assert service.ocr(b"page") == "Minutes"
        assert service.chat(b"page", "When?") == "In March."


def test_pages_are_told_apart_by_their_status() -> None:
    answer = client(answers(document(page(1, "one"), page(2, None)))).read(b"%PDF-")
    assert answer.pages is not None
    assert [isinstance(page, PageError) for page in answer.pages] == [False, True]


def test_what_a_newer_service_says_is_kept() -> None:
    newer = {**OCR, "summary": "short"}
    answer = client(answers(httpx.Response(200, json=newer))).read(b"page")
    assert answer.model_dump(exclude_unset=True)["summary"] == "short"


def test_an_option_that_there_is_not_is_an_error_and_not_ignored() -> None:
    with pytest.raises(TypeError, match="langauge"):
        client(answers()).read(b"page", langauge="ru")  # type: ignore[call-arg]


def test_the_service_is_tried_again_after_as_long_as_it_asks(waits: list[float]) -> None:
    busy = [refusal(BUSY, 503, seconds) for seconds in (1, 1, 9)]
    assert client(answers(*busy, httpx.Response(200, json=OCR))).ocr(b"page") == "Minutes"
    assert waits == [1, 2, 9]


async def test_so_it_is_by_the_awaited_client(waits: list[float]) -> None:
    service = answers(refusal(BUSY, 503, 3), httpx.Response(200, json=OCR))
    async with async_client(service) as awaited:
        assert await awaited.ocr(b"page") == "Minutes"
    assert waits == [3]


def test_a_date_may_say_when(waits: list[float]) -> None:
    then = format_datetime(datetime.now(UTC) + timedelta(seconds=20), usegmt=True)
    client(answers(refusal(BUSY, 429, then), httpx.Response(200, json=OCR))).ocr(b"page")
    assert 18 <= waits[0] <= 20


@pytest.mark.parametrize(
    ("status", "retry_after", "tried"),
    [(503, 1, retries.MAX_TRIES), (503, 3600, 1), (503, None, 1), (503, "soon", 1), (400, 1, 1)],
)
def test_there_is_an_end_to_trying(
    status: int, retry_after: object, tried: int, waits: list[float]
) -> None:
    refusals = [refusal(BUSY, status, retry_after)] * tried
    with pytest.raises(ChatVLMError) as raised:
        client(answers(*refusals)).ocr(b"page")
    assert (str(raised.value), raised.value.status) == (BUSY, status)
    assert len(waits) == tried - 1


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (httpx.ConnectError, "cannot be reached"),
        (httpx.ConnectTimeout, "cannot be reached"),
        (httpx.ReadTimeout, "did not answer within 7 seconds"),
        (httpx.RemoteProtocolError, "closed the connection before"),
        (httpx.ReadError, "closed the connection before"),
        (httpx.WriteError, "closed the connection before"),
    ],
)
def test_a_failing_connection_is_one_sentence(error: type[httpx.RequestError], says: str) -> None:
    def service(request: httpx.Request) -> httpx.Response:
        raise error("[Errno 99] library's words", request=request)

    with pytest.raises(ChatVLMError, match=rf"^http://service {says}[^\[]*$") as raised:
        client(service, timeout=7).models()
    assert raised.value.status is None


@pytest.mark.parametrize(
    "response",
    [
        httpx.Response(200, text="<html>hello</html>"),
        httpx.Response(200, json={"text": "Minutes"}),
        httpx.Response(502, text="<html>Bad Gateway</html>"),
        httpx.Response(301, headers={"Location": "http://elsewhere"}),
        httpx.Response(500, json={"detail": [{"loc": ["body"]}]}),
    ],
)
def test_another_service_is_told_from_this_one(response: httpx.Response) -> None:
    with pytest.raises(
        ChatVLMError, match=rf"status {response.status_code}\): check the address\.$"
    ):
        client(answers(response)).ocr(b"page")


@pytest.mark.parametrize("url", ["localhost:8000", "ftp://service", "http://", "http://a:b:c"])
def test_what_is_no_address_is_told_at_once(url: str) -> None:
    with pytest.raises(ChatVLMError, match="not the address of a service"):
        ChatVLMClient(url)


def streamed(*chunks: bytes) -> Callable[[httpx.Request], httpx.Response]:
    def service(request: httpx.Request) -> httpx.Response:
        assert fields(request)["stream"] == "true"
        return httpx.Response(200, content=iter(chunks))

    return service


WORDS = ["В мар\u2028те", "."]
WHOLE = {**CHAT, "response": "".join(WORDS)}
STREAM = "".join([*(event("piece", text=word) for word in WORDS), event("answer", **WHOLE)])


@pytest.mark.parametrize("size", [1, 7, 4096])
def test_a_stream_is_pieces_and_then_the_answer_however_it_is_cut(size: int) -> None:
    data = STREAM.encode()
    chunks = [data[start : start + size] for start in range(0, len(data), size)]
    *pieces, last = client(streamed(*chunks)).stream(b"page", "When?")
    assert [piece.text for piece in pieces if isinstance(piece, Piece)] == WORDS
    assert isinstance(last, Chat)
    assert last.response == "".join(WORDS)


async def test_the_awaited_client_streams_too() -> None:
    async def chunks():
        yield STREAM.encode()

    service = async_client(lambda request: httpx.Response(200, content=chunks()))
    kinds = [type(event) async for event in service.stream(b"page", "When?")]
    assert kinds == [Piece, Piece, Chat]


@pytest.mark.parametrize(
    ("after", "says"),
    [
        ("", "http://service closed the connection before its answer was complete."),
        (event("error", detail="Out of memory."), "Out of memory."),
        ("event: answer\ndata: {\n\n", "check the address."),
    ],
)
def test_a_stream_that_fails_in_the_middle_is_one_sentence(after: str, says: str) -> None:
    data = event("piece", text="In") + after
    stream: Iterator[object] = client(streamed(data.encode())).stream(b"page", "When?")
    assert next(stream) == Piece(text="In")
    with pytest.raises(ChatVLMError) as raised:
        next(stream)
    assert str(raised.value).endswith(says)
