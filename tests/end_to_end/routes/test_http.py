"""HTTP as monitors, browsers, proxies and old clients speak it, to a real `bentoml serve`."""

import gzip

import pytest

from tests.support.pages import ENGLISH, encode, render
from tests.support.server import Server

PAGE = encode(render(ENGLISH[:1]))
TEXT = ENGLISH[0]
ORIGIN = "https://app.example.com"


@pytest.mark.parametrize("path", ["/", "/health", "/livez", "/readyz", "/metrics", "/v1/models"])
def test_a_monitor_may_ask_for_the_head_only(reader: Server, path: str) -> None:
    head = reader.client.head(path)
    assert (head.status_code, head.content) == (200, b"")


def test_options_tells_the_methods_of_a_route(reader: Server) -> None:
    answer = reader.client.options("/ocr")
    assert (answer.status_code, answer.headers["allow"]) == (204, "OPTIONS, POST")


@pytest.mark.parametrize("path", ["/ocr/", "//ocr", "//ocr//"])
def test_slashes_too_many_cost_neither_the_file_nor_a_redirect(reader: Server, path: str) -> None:
    url = f"http://{reader.host}:{reader.port}{path}"
    answer = reader.client.post(url, files={"file": PAGE}, follow_redirects=False)
    assert (answer.status_code, answer.json()["text"]) == (200, TEXT)


@pytest.mark.parametrize("packed", [False, True])
def test_a_page_may_be_the_body(reader: Server, packed: bool) -> None:
    headers = {"Content-Type": "image/png"} | ({"Content-Encoding": "gzip"} if packed else {})
    body = gzip.compress(PAGE) if packed else PAGE
    answer = reader.client.post("/ocr?langage=en", content=body, headers=headers)
    assert answer.json()["text"] == TEXT
    assert "did you mean 'language'?" in answer.json()["warning"]


def test_a_page_of_another_origin_is_let_in_by_the_setting_only(reader: Server) -> None:
    asked = {"Origin": ORIGIN, "Access-Control-Request-Method": "POST"}
    assert "access-control-allow-origin" not in reader.client.options("/ocr", headers=asked).headers
    with Server(models="reader", reader_processes=1, cors_origins=ORIGIN) as server:
        preflight = server.client.options("/ocr", headers=asked)
        assert (preflight.status_code, preflight.headers["access-control-allow-origin"]) == (
            200,
            ORIGIN,
        )
        answer = server.client.post("/ocr", files={"file": PAGE}, headers={"Origin": ORIGIN})
        assert answer.headers["access-control-allow-origin"] == ORIGIN
        refused = server.client.post("/ocr", headers={"Origin": ORIGIN})
        assert (refused.status_code, refused.headers["access-control-allow-origin"]) == (
            400,
            ORIGIN,
        )
        other = server.client.get("/health", headers={"Origin": "https://evil.example.com"})
        assert "access-control-allow-origin" not in other.headers


@pytest.mark.parametrize("prefix", ["", "/pages"], ids=["stripped", "kept"])
def test_behind_a_proxy_the_documents_link_below_its_path(prefix: str) -> None:
    with Server(models="reader", reader_processes=1, root_path="/pages/") as server:
        assert '"/pages/openapi.json"' in server.client.get(f"{prefix}/docs").text.replace("'", '"')
        schema = server.client.get(f"{prefix}/openapi.json").json()
        assert schema["servers"] == [{"url": "/pages"}]
        redirect = server.client.get(f"{prefix}/playground", follow_redirects=False)
        assert redirect.headers["location"] == "playground/"
        answer = server.client.post(f"{prefix}/ocr", files={"file": PAGE})
        assert answer.json()["text"] == TEXT
