"""The two clients: what they send, and what they return or raise."""

import inspect
from pathlib import Path

import httpx
import pytest
from chatvlm_client import (
    AsyncChatVLMClient,
    ChatVLMClient,
    ChatVLMError,
    PageError,
)

from tests.support.fakes.service import (
    CHAT,
    OCR,
    client,
    document,
    fields,
    page,
    responses,
)


def methods(kind: type) -> dict[str, str]:
    return {
        name: str(inspect.signature(value)).partition(" -> ")[0]
        for name, value in vars(kind).items()
        if not name.startswith("_")
    }


def test_the_async_client_has_the_same_methods() -> None:
    assert methods(AsyncChatVLMClient) == methods(ChatVLMClient)


def test_a_file_is_sent_with_its_name_and_the_given_options_only(tmp_path: Path) -> None:
    scan = tmp_path / "scan.png"
    scan.write_bytes(b"a page")

    def service(request: httpx.Request) -> httpx.Response:
        assert (request.method, request.url.path) == ("POST", "/ocr")
        assert fields(request) == {"file": "scan.png", "language": "ru", "box": "1,2,3,4"}
        return httpx.Response(200, json=OCR)

    answer = client(service).read(scan, language="ru", box=(1, 2, 3, 4), model=None)
    assert answer.image_size == (800, 600)


def test_the_methods_of_the_guide_return_the_text() -> None:
    with client(
        responses(httpx.Response(200, json=OCR), httpx.Response(200, json=CHAT))
    ) as service:
        assert service.ocr(b"page") == "Minutes"
        assert service.chat(b"page", "When?") == "In March."


def test_extracted_data_are_returned_with_every_field() -> None:
    told = {"data": {"a": 1}, "valid": True, "pages": [1], "model": "reader", "processing_time": 1}
    with client(responses(httpx.Response(200, json=told))) as service:
        answer = service.extract(b"page", ["a"])
    assert (answer.data, answer.valid, answer.pages) == ({"a": 1}, True, [1])


def test_pages_are_parsed_by_their_status() -> None:
    answer = client(responses(document(page(1, "one"), page(2, None)))).read(b"%PDF-")
    assert answer.pages is not None
    assert [isinstance(page, PageError) for page in answer.pages] == [False, True]


def test_unknown_fields_of_an_answer_are_kept() -> None:
    newer = {**OCR, "summary": "short"}
    answer = client(responses(httpx.Response(200, json=newer))).read(b"page")
    assert answer.model_dump(exclude_unset=True)["summary"] == "short"


def test_an_unknown_option_is_an_error() -> None:
    with pytest.raises(TypeError, match="langauge"):
        client(responses()).read(b"page", langauge="ru")  # type: ignore[call-arg]


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
def test_an_answer_of_another_service_is_an_error(response: httpx.Response) -> None:
    with pytest.raises(
        ChatVLMError, match=rf"status {response.status_code}\): check the address\.$"
    ):
        client(responses(response)).ocr(b"page")


@pytest.mark.parametrize("code", ["too_large", None])
def test_an_error_has_the_services_word_where_it_sends_one(code: str | None) -> None:
    word = {} if code is None else {"code": code}
    response = httpx.Response(413, json={"detail": "The file is too large.", **word})
    with pytest.raises(ChatVLMError, match="too large") as raised:
        client(responses(response)).ocr(b"page")
    assert (raised.value.status, raised.value.code) == (413, code)


@pytest.mark.parametrize("url", ["localhost:8000", "ftp://service", "http://", "http://a:b:c"])
def test_a_wrong_address_is_an_error_at_once(url: str) -> None:
    with pytest.raises(ChatVLMError, match="not the address of a service"):
        ChatVLMClient(url)
