"""What can go wrong between a client and a model, and what becomes of the others."""

import json
import os
import select
import signal
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from http.client import HTTPResponse
from typing import Any

import httpx
import psutil  # type: ignore[import-untyped]
import pytest

from common.units import MIB
from tests.support.files.documents import pdf
from tests.support.pages import ENGLISH, LONG_PAGE, encode, render
from tests.support.server import RAMBLING, SAYS, Server
from tests.support.watching import PATIENCE, at_rest, busy, sentence, until

PAGE = encode(render(ENGLISH))
MANY_LINES = render(ENGLISH * 4)
LONG_ANSWER = {"model": RAMBLING, "temperature": "0", "max_tokens": "4096"}


@pytest.fixture(scope="module")
def strained() -> Iterator[Server]:
    """One process of the reader that lets one page wait, and little time."""
    with Server(models="reader", reader_processes=1, queue_size=1, request_timeout=4) as server:
        server.client.post("/ocr", files={"file": PAGE})
        yield server


def test_hanging_up_ends_the_reading(reader: Server) -> None:
    with pytest.raises(httpx.ReadTimeout):
        reader.client.post("/ocr", files={"file": LONG_PAGE}, timeout=2)
    until(lambda: busy(reader, "reader") == 0)
    until(lambda: at_rest(reader.readers()))


def test_hanging_up_frees_the_row(fleet: Server) -> None:
    fleet.client.post("/chat", files={"file": PAGE}, data=LONG_ANSWER | {"max_tokens": "1"})
    with pytest.raises(httpx.ReadTimeout):
        fleet.client.post("/chat", files={"file": PAGE}, data=LONG_ANSWER, timeout=1)
    until(lambda: busy(fleet, RAMBLING) == 0)
    until(lambda: at_rest(fleet.runners(RAMBLING)))


def test_hanging_up_on_a_stream_frees_the_row(fleet: Server) -> None:
    asked = LONG_ANSWER | {"stream": "true"}
    with fleet.client.stream("POST", "/chat", files={"file": PAGE}, data=asked) as response:
        lines = response.iter_lines()  # which hangs up when it is let go
        assert next(lines) == "event: piece"
        until(lambda: busy(fleet, RAMBLING) == 1)
    until(lambda: busy(fleet, RAMBLING) == 0)
    until(lambda: at_rest(fleet.runners(RAMBLING)))


def test_a_runner_that_dies_costs_its_own_requests_only(fleet: Server) -> None:
    def other(_: int) -> httpx.Response:
        data = {"model": "qwen3_vl_2b"}
        return fleet.client.post("/ocr", files={"file": PAGE}, data=data)

    other(0)
    with ThreadPoolExecutor() as pool:
        lost = pool.submit(fleet.client.post, "/chat", files={"file": PAGE}, data=LONG_ANSWER)
        until(lambda: busy(fleet, RAMBLING) == 1)
        others = pool.map(other, range(20))
        (runner,) = fleet.runners(RAMBLING)
        runner.kill()
        answer = lost.result()
        assert answer.status_code == 503
        assert int(answer.headers["retry-after"]) > 0
        assert RAMBLING in sentence(answer)
        assert {other.json()["text"] for other in others} == {SAYS["qwen3_vl_2b"]}

    short = LONG_ANSWER | {"max_tokens": "4"}
    codes = set()

    def works_again() -> bool:
        codes.add(fleet.client.post("/chat", files={"file": PAGE}, data=short).status_code)
        return 200 in codes

    until(works_again, 90)
    assert codes <= {200, 503}


def test_past_the_queue_a_page_is_refused_at_once(strained: Server) -> None:
    with ThreadPoolExecutor(5) as pool:
        answers = list(
            pool.map(lambda _: strained.client.post("/ocr", files={"file": LONG_PAGE}), range(5))
        )
    refused = [answer for answer in answers if answer.status_code == 503]
    taken = [answer for answer in answers if answer not in refused]
    assert len(taken) == 2  # one is read, one waits
    for answer in refused:
        assert int(answer.headers["retry-after"]) > 0
        assert sentence(answer)
        assert answer.elapsed < min(answer.elapsed for answer in taken)


def test_past_the_time_limit_the_work_stops_too(strained: Server) -> None:
    answer = strained.client.post("/ocr", files={"file": LONG_PAGE})
    assert answer.status_code == 504
    assert "time limit" in sentence(answer)
    until(lambda: at_rest(strained.readers()))
    assert strained.client.post("/ocr", files={"file": PAGE}).json()["text"] == "\n".join(ENGLISH)


@pytest.mark.parametrize("length", ["Content-Length: %d", "Transfer-Encoding: chunked"])
def test_a_huge_upload_is_refused_while_it_arrives(length: str, reader: Server) -> None:
    size = 300 * MIB
    chunked = length.startswith("Transfer")
    part = b"--cut\r\nContent-Disposition: form-data; name=file; filename=a.png\r\n\r\n"
    head = "POST /ocr HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=cut\r\n"
    head += f"{length if chunked else length % size}\r\n\r\n"
    (gateway,) = reader.runners("chatvlmllm")
    memory = gateway.memory_info().rss
    files = set(reader.temporary.rglob("*"))
    sent = 0
    with socket.create_connection(("127.0.0.1", reader.port), timeout=PATIENCE) as peer:
        peer.sendall(head.encode())
        data = part + bytes(MIB)
        while sent < size and not select.select([peer], [], [], 0)[0]:
            peer.sendall(b"%x\r\n%b\r\n" % (len(data), data) if chunked else data)
            sent += len(data)
            data = bytes(MIB)
        answer = HTTPResponse(peer)
        answer.begin()
        assert answer.status == 413
        assert set(json.load(answer)) == {"detail", "code"}
    assert sent < 64 * MIB
    assert gateway.memory_info().rss - memory < 64 * MIB
    assert set(reader.temporary.rglob("*")) <= files


def test_an_unload_ends_every_process_of_the_reader(reader: Server) -> None:
    def read(_: int) -> int:
        return reader.client.post("/ocr", files={"file": PAGE}).status_code

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(read, range(16))) == {200}
    assert len(reader.readers()) == 2
    assert reader.client.delete("/models/reader").status_code == 200
    assert reader.client.get("/health").json()["loaded_models"] == []
    assert reader.readers() == []
    assert reader.client.delete("/models/reader").status_code == 404
    assert read(0) == 200


def test_a_page_whose_process_is_killed_is_read_all_the_same(reader: Server) -> None:
    with ThreadPoolExecutor() as pool:
        reading = pool.submit(reader.client.post, "/ocr", files={"file": encode(MANY_LINES)})
        until(lambda: busy(reader, "reader") and reader.readers())
        killed = reader.readers()
        for process in killed:
            process.kill()
        answer = reading.result()
    assert answer.status_code == 200, answer.text
    assert answer.json()["text"] == "\n".join(ENGLISH * 4)
    assert not set(killed) & set(reader.readers())


def test_no_process_of_the_reader_outlives_its_runner() -> None:
    with Server(models="reader", reader_processes=1) as server:
        server.client.post("/ocr", files={"file": PAGE})
        (reading,) = server.readers()
        (runner,) = server.runners("reader")
        runner.kill()
        until(lambda: not reading.is_running())
        until(lambda: server.client.post("/ocr", files={"file": PAGE}).status_code == 200, 90)


FILE = {"file": ("page.png", PAGE)}


@pytest.mark.parametrize(
    ("code", "method", "route", "request_"),
    [
        (400, "POST", "/ocr", {}),
        (400, "POST", "/ocr", {"data": {"model": "reader"}}),
        (400, "POST", "/ocr", {"files": {"file": b""}}),
        (400, "POST", "/ocr", {"files": {"file": b"no image"}}),
        (400, "POST", "/ocr", {"files": {"file": PAGE[:45]}}),
        (400, "POST", "/ocr", {"files": {"file": b"\0\0\1\0" + PAGE}}),
        (400, "POST", "/ocr", {"files": FILE, "data": {"language": "Elbonian"}}),
        (400, "POST", "/ocr", {"files": FILE, "data": {"mode": "poem"}}),
        (400, "POST", "/ocr", {"files": FILE, "data": {"color": "red"}}),
        (400, "POST", "/ocr", {"files": FILE, "data": {"model": "a"}, "params": {"model": "b"}}),
        (400, "POST", "/ocr", {"content": b"{}", "headers": {"Content-Type": "application/json"}}),
        (400, "POST", "/chat", {"files": FILE, "data": {"temperature": "1.5"}}),
        (400, "POST", "/chat", {"files": FILE, "data": {"temperature": "nan"}}),
        (400, "POST", "/chat", {"files": FILE, "data": {"max_tokens": "0"}}),
        (400, "POST", "/chat", {"files": FILE, "data": {"max_tokens": "many"}}),
        (400, "POST", "/batch/ocr", {"files": [("files", PAGE)] * 11}),
        (400, "POST", "/batch/ocr", {"files": {"page": PAGE}}),
        (415, "POST", "/ocr", {"content": b"text", "headers": {"Content-Type": "text/plain"}}),
        (404, "POST", "/ocr", {"files": FILE, "data": {"model": "invalid_model"}}),
        (404, "DELETE", "/models/invalid_model", {}),
        (404, "GET", "/no/such/route", {}),
        (405, "GET", "/ocr", {}),
        (405, "POST", "/models", {}),
        (405, "DELETE", "/healthz", {}),
        (413, "POST", "/ocr", {"files": {"file": PAGE + bytes(11 * MIB)}}),
        (503, "POST", "/ocr", {"files": FILE, "data": {"model": "qwen3_vl_2b"}}),
    ],
)
def test_a_bad_request_gets_its_code_and_one_sentence(
    code: int, method: str, route: str, request_: dict[str, Any], reader: Server
) -> None:
    answer = reader.client.request(method, route, **request_)
    assert answer.status_code == code
    assert sentence(answer).strip()
    assert "retry-after" not in answer.headers  # the one 503 is of weights that are missing


def test_a_termination_lets_every_accepted_request_be_answered() -> None:
    with Server(models="reader", reader_processes=2) as server:
        page = encode(render(ENGLISH * 4))
        with ThreadPoolExecutor(6) as pool:
            answers = [
                pool.submit(server.client.post, "/ocr", files={"file": page}) for _ in range(6)
            ]
            until(lambda: busy(server, "reader") == 6)
            children = server.children()
            server.process.send_signal(signal.SIGTERM)
            texts = [answer.result().json()["text"] for answer in answers]
        assert texts == ["\n".join(ENGLISH * 4)] * 6
        assert server.process.wait(PATIENCE) == 0
        with suppress(psutil.NoSuchProcess):
            assert [child for child in children if child.is_running()] == []


@pytest.mark.parametrize(
    ("kill", "stop_signal"), [(os.kill, signal.SIGTERM), (os.killpg, signal.SIGINT)]
)
def test_a_document_is_read_to_its_last_page_before_the_server_stops(
    kill: Callable[[int, int], None], stop_signal: int
) -> None:
    """Told to stop by a supervisor, and by Ctrl-C in a terminal, which reaches the whole group."""
    pages = 12
    with Server(models="reader", reader_processes=1) as server, ThreadPoolExecutor() as pool:
        reading = pool.submit(server.client.post, "/ocr", files={"file": pdf(*[ENGLISH] * pages)})
        until(lambda: busy(server, "reader"))
        kill(server.process.pid, stop_signal)
        answer = reading.result()
        assert answer.status_code == 200, answer.text
        assert answer.json()["text"].split("\f") == ["\n".join(ENGLISH)] * pages
        assert server.process.wait(PATIENCE) == 0


def test_a_rasteriser_that_is_killed_costs_at_most_one_page(reader: Server) -> None:
    with ThreadPoolExecutor() as pool:
        reading = pool.submit(reader.client.post, "/ocr", files={"file": pdf(*[ENGLISH] * 20)})
        until(lambda: busy(reader, "reader"))
        until(lambda: [process.kill() for process in reader.rasterisers()])
        answer = reading.result()
    assert answer.status_code == 200, answer.text
    pages = answer.json()["pages"]
    failed = [page for page in pages if page["status"] == "error"]
    # None where it was asked whether a picture is cut: the page itself had been drawn.
    assert len(failed) <= 1
    assert all(f"Page {page['number']} of the PDF is broken" in page["error"] for page in failed)
    read = [page["text"] for page in pages if page not in failed]
    assert read == ["\n".join(ENGLISH)] * (20 - len(failed))
