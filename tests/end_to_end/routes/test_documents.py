"""PDFs and TIFFs before a real server, the ones with traps in them too."""

import base64
import threading
from typing import Any

import httpx
import pytest

from common.units import MIB
from tests.support.files.documents import layered, locked, pdf, tiff
from tests.support.pages import ENGLISH, RUSSIAN, encode, render
from tests.support.server import SAYS, Server
from tests.support.watching import busy, until

TEXT = "\n".join(ENGLISH)


def read(server: Server, file: bytes, **data: str) -> dict[str, Any]:
    response = server.client.post("/ocr", files={"file": file}, data=data)
    assert response.status_code == 200, response.text
    return response.json()


def test_a_pdf_is_read_to_the_letter_page_by_page(reader: Server) -> None:
    answer = read(reader, pdf(ENGLISH, ENGLISH[:2], ENGLISH[2:]))
    pages = [TEXT, "\n".join(ENGLISH[:2]), "\n".join(ENGLISH[2:])]
    assert answer["text"] == "\f".join(pages)
    assert [page["text"] for page in answer["pages"]] == pages
    assert [line["text"] for line in answer["pages"][1]["lines"]] == list(ENGLISH[:2])


def test_a_tiff_is_read_to_the_letter_page_by_page(reader: Server) -> None:
    answer = read(reader, tiff(render(ENGLISH), render(RUSSIAN)))
    assert answer["text"] == TEXT + "\f" + "\n".join(RUSSIAN)


@pytest.mark.parametrize("turn", [90, 180, 270])
def test_a_page_that_a_viewer_turns_is_read_as_it_is_seen(turn: int, reader: Server) -> None:
    assert read(reader, pdf(ENGLISH, turn=turn))["text"] == TEXT


def test_what_is_seen_is_read_and_not_a_layer_of_garbage(reader: Server) -> None:
    assert read(reader, pdf(ENGLISH, hidden="Qzx wvut jklm 0000 garbage"))["text"] == TEXT


def test_a_sound_text_layer_is_taken_if_it_is_wanted_and_other_pages_are_read(
    reader: Server,
) -> None:
    scan = layered(render(ENGLISH), ENGLISH[:1])
    answer = read(reader, pdf(ENGLISH), text_layer="auto")
    assert answer["text"].replace("’", "'") == TEXT
    assert [page["source"] for page in answer["pages"]] == ["text_layer"]
    assert [page["source"] for page in read(reader, scan, text_layer="auto")["pages"]] == ["image"]


def test_a_question_is_answered_from_a_sound_text_layer(reader: Server) -> None:
    asked = {"prompt": "What will the repairs cost?", "text_layer": "auto"}
    response = reader.client.post("/chat", files={"file": pdf(ENGLISH)}, data=asked)
    answer = response.json()
    assert (answer["response"], answer["source"]) == (ENGLISH[2], "text_layer")
    assert [line["confidence"] for line in answer["lines"]] == [1.0]


def test_a_page_of_ten_square_metres_is_read(reader: Server) -> None:
    answer = read(reader, pdf(ENGLISH, size=(5669, 14173), font=150))
    assert answer["text"] == TEXT
    width, height = answer["image_size"]
    assert 75_000_000 < width * height < 81_000_000


def test_an_empty_page_has_no_text_and_costs_the_others_nothing(reader: Server) -> None:
    answer = read(reader, pdf(ENGLISH, (), ENGLISH))
    assert answer["text"] == f"{TEXT}\f\f{TEXT}"
    assert [page["status"] for page in answer["pages"]] == ["success"] * 3


def test_a_broken_page_fails_alone(reader: Server) -> None:
    first, second, third = read(reader, pdf(ENGLISH, None, ENGLISH))["pages"]
    assert (first["text"], third["text"]) == (TEXT, TEXT)
    assert second["status"] == "error"


@pytest.mark.parametrize(
    ("file", "says"), [(locked(), "password"), (pdf(), "no pages"), (b"%PDF-1.7", "broken")]
)
@pytest.mark.parametrize("route", ["/ocr", "/chat"])
def test_what_is_no_readable_document_is_told_why(
    route: str, file: bytes, says: str, reader: Server
) -> None:
    response = reader.client.post(route, files={"file": file})
    assert response.status_code == 400
    assert says in response.json()["detail"]


def test_a_question_is_answered_from_the_pages_chosen(reader: Server) -> None:
    document = pdf(ENGLISH[:2], ENGLISH[2:4], ENGLISH[4:])
    asked = {"prompt": "When is the next meeting?", "pages": "1-3"}
    answer = reader.client.post("/chat", files={"file": document}, data=asked).json()
    assert answer["response"] == ENGLISH[4]
    assert [(line["text"], line["page"]) for line in answer["lines"]] == [(ENGLISH[4], 3)]


def test_json_asks_what_a_form_asks(reader: Server) -> None:
    image = base64.b64encode(encode(render(ENGLISH))).decode()
    assert reader.client.post("/ocr", json={"image": image}).json()["text"] == TEXT
    document = base64.b64encode(pdf(ENGLISH, ENGLISH[:1])).decode()
    sent = {"image": f"data:application/pdf;base64,{document}", "pages": "2"}
    assert reader.client.post("/ocr", json=sent).json()["text"] == ENGLISH[0]


def test_a_url_is_not_fetched_unless_the_operator_allows_it(reader: Server) -> None:
    response = reader.client.post("/ocr", json={"url": "https://localhost/page.png"})
    assert response.status_code == 400
    assert "CHATVLM_ALLOW_URLS" in response.json()["detail"]


def test_the_pages_of_a_document_are_rows_of_one_batch(fleet: Server) -> None:
    answer = read(fleet, pdf(*[ENGLISH] * 6), model="qwen3_vl_2b")
    assert [page["text"] for page in answer["pages"]] == [SAYS["qwen3_vl_2b"]] * 6
    assert all(page["usage"]["visual_tokens"] for page in answer["pages"])


def test_several_pages_in_one_question_are_several_images(fleet: Server) -> None:
    def usage(pages: str) -> dict[str, int]:
        asked = {"model": "qwen_vl_2b", "pages": pages}
        answer = fleet.client.post("/chat", files={"file": pdf(*[ENGLISH] * 3)}, data=asked)
        return answer.json()["usage"]

    assert usage("1-3")["visual_tokens"] == 3 * usage("2")["visual_tokens"]


def test_hanging_up_ends_the_document_and_its_process(reader: Server) -> None:
    with pytest.raises(httpx.ReadTimeout):
        reader.client.post("/ocr", files={"file": pdf(*[ENGLISH] * 50)}, timeout=2)
    until(lambda: not reader.rasterisers())
    until(lambda: busy(reader, "reader") == 0)


class Memory:
    """The most that the processes of a server held together while the context was open, bytes."""

    def __init__(self, server: Server) -> None:
        self.most = 0
        self._server = server
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> "Memory":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(0.1):
            self.most = max(self.most, self._server.memory())


def test_two_hundred_pages_take_little_more_memory_than_two() -> None:
    with Server(models="reader", reader_processes=2, max_pages=200, request_timeout=300) as server:

        def most(pages: int) -> int:
            with Memory(server) as memory:
                answer = read(server, pdf(*[ENGLISH[:1]] * pages))
            assert answer["text"].split("\f") == [ENGLISH[0]] * pages
            return memory.most

        read(server, pdf(ENGLISH))
        two, two_hundred = most(2), most(200)
        print(f"2 pages: {two / MIB:.0f} MiB, 200 pages: {two_hundred / MIB:.0f} MiB")
        assert two_hundred - two < 300 * MIB
