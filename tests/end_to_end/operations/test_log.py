"""The log of a real `bentoml serve`."""

import json
import time
from collections.abc import Iterator

import pytest

from tests.support.pages import ENGLISH, encode, render
from tests.support.server import Server

PAGE = encode(render(ENGLISH[:1]))


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server(models="reader", reader_processes=1, log_format="json") as server:
        server.new_log()  # what BentoML says of its start is text
        yield server


def lines(server: Server, count: int) -> list[dict[str, object]]:
    """The next lines of the log. A request's line follows its response."""
    log = server.new_log()
    give_up = time.monotonic() + 10
    while log.count("\n") < count and time.monotonic() < give_up:
        time.sleep(0.05)
        log += server.new_log()
    return [json.loads(line) for line in log.splitlines()]


def test_a_request_is_one_line_of_json_and_nothing_else_is_logged(server: Server) -> None:
    server.client.post("/ocr", files={"file": PAGE})  # starts the reader
    assert lines(server, 1)
    server.client.get("/livez")
    server.client.post("/ocr", files={"file": PAGE}, headers={"X-Request-ID": "abc"})
    server.client.get("/nowhere")
    read, refused = lines(server, 2)
    assert read.items() >= {"method": "POST", "route": "/ocr", "status": 200}.items()
    assert read.items() >= {"model": "reader", "pages": 1, "client": "127.0.0.1"}.items()
    assert read["request_id"] == "abc"
    assert str(read["component"]).startswith("entry_service:")
    assert (refused["status"], refused["reason"]) == (
        404,
        "There is no route '/nowhere'; see /docs.",
    )
    assert refused["request_id"] != "abc"
