"""A request is sent again if the service asks for it."""

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import httpx
import pytest
from chatvlm_client import ChatVLMError
from chatvlm_client.retries import MAX_TRIES

from tests.support.fakes.service import OCR, async_client, client, refusal, responses

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


def test_a_request_is_sent_again_when_the_service_asks_for_it(
    waits: list[float],
) -> None:
    busy = [refusal(BUSY, 503, seconds) for seconds in (1, 1, 9)]
    assert client(responses(*busy, httpx.Response(200, json=OCR))).ocr(b"page") == "Minutes"
    assert waits == [1, 2, 9]


async def test_the_async_client_sends_a_request_again(waits: list[float]) -> None:
    service = responses(refusal(BUSY, 503, 3), httpx.Response(200, json=OCR))
    async with async_client(service) as awaited:
        assert await awaited.ocr(b"page") == "Minutes"
    assert waits == [3]


def test_retry_after_may_be_a_date(waits: list[float]) -> None:
    then = format_datetime(datetime.now(UTC) + timedelta(seconds=20), usegmt=True)
    client(responses(refusal(BUSY, 429, then), httpx.Response(200, json=OCR))).ocr(b"page")
    assert 18 <= waits[0] <= 20


@pytest.mark.parametrize(
    ("status", "retry_after", "tried"),
    [(503, 1, MAX_TRIES), (503, 3600, 1), (503, None, 1), (503, "soon", 1), (400, 1, 1)],
)
def test_a_request_is_not_sent_again_forever(
    status: int, retry_after: object, tried: int, waits: list[float]
) -> None:
    refusals = [refusal(BUSY, status, retry_after)] * tried
    with pytest.raises(ChatVLMError) as raised:
        client(responses(*refusals)).ocr(b"page")
    assert (str(raised.value), raised.value.status) == (BUSY, status)
    assert len(waits) == tried - 1
