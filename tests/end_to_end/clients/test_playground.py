"""The page to try the service on, in a real browser that no other host is reachable from."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.support.files.documents import pdf, tiff
from tests.support.pages import ENGLISH, RUSSIAN, draw_table, encode, render
from tests.support.server import RAMBLING, SAYS, Server

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
FLAGS = ("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-sync")
SECONDS = 30
PHONE = {"width": 375, "height": 700}
HOSTILE = "<img src=x onerror=alert(1)>"

Visit = Callable[..., Page]

pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="needs Chromium: Debian's package chromium, say"
)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def visit(browser: Browser) -> Iterator[Visit]:
    """Opens a server's page; fails where it asks another host, or a script of it fails."""
    hosts: set[str] = set()
    own: set[str] = set()
    faults: list[object] = []

    def open_page(server: Server, locale: str = "en-GB", **options: Any) -> Page:
        page = browser.new_context(locale=locale, **options).new_page()
        page.set_default_timeout(SECONDS * 1000)
        page.on("request", lambda request: hosts.add(urlsplit(request.url).netloc))
        page.on("pageerror", lambda fault: faults.append(fault))
        own.add(server.client.base_url.netloc.decode())
        page.goto(f"{server.client.base_url}/playground")
        expect(page.locator("#model option")).to_have_count(8)
        return page

    expect.set_options(timeout=SECONDS * 1000)
    yield open_page
    for context in browser.contexts:
        context.close()
    assert hosts - {""} == own  # a data: URL has no host
    assert not faults


def choose(page: Page, field: str, *files: tuple[str, bytes]) -> None:
    page.set_input_files(
        f"#{field}",
        [{"name": name, "mimeType": "", "buffer": content} for name, content in files],
    )


def read(page: Page, name: str, content: bytes) -> None:
    choose(page, "file", (name, content))
    page.click("#read .primary")


def ask(page: Page, question: str) -> None:
    expect(page.locator("#ask .primary")).to_be_enabled()
    page.fill("#ask textarea", question)
    page.press("#ask textarea", "Enter")


def saved(page: Page, button: str) -> tuple[str, str]:
    """Name and content of the file."""
    with page.expect_download() as download:
        page.click(f"#reading .saves button:text-is('{button}')")
    path = download.value.path()
    return download.value.suggested_filename, Path(path).read_text("utf-8")


def test_a_picture_is_read_and_its_boxes_are_drawn_on_it(visit: Visit, reader: Server) -> None:
    page = visit(reader)
    image = encode(render(ENGLISH))
    read(page, "minutes.png", image)
    expect(page.locator("#text .line")).to_have_text(list(ENGLISH))
    lines = reader.client.post("/ocr", files={"file": image}).json()["lines"]
    for number, line in enumerate(lines):
        box = page.locator("#boxes rect").nth(number)
        left, top, right, bottom = line["box"]
        drawn = [float(box.get_attribute(name) or 0) for name in ("x", "y", "width", "height")]
        assert drawn == [left, top, right - left, bottom - top]
        level = "sure" if line["confidence"] >= 0.9 else "fair"
        expect(box).to_have_class(level)
        row = page.locator("#text .line").nth(number)
        percent = float((row.get_attribute("data-remark") or "").removesuffix(" %"))
        assert abs(percent - line["confidence"] * 100) <= 0.5
    # On the screen the first box lies over the first line of the picture.
    picture = page.locator("#picture").bounding_box()
    box = page.locator("#boxes rect").first.bounding_box()
    assert picture is not None and box is not None  # noqa: PT018
    scale = picture["width"] / render(ENGLISH).width
    assert abs(box["x"] - picture["x"] - lines[0]["box"][0] * scale) < 2
    assert abs(box["y"] - picture["y"] - lines[0]["box"][1] * scale) < 2
    expect(page.locator("#legend")).to_be_visible()


def test_a_page_that_lies_on_its_side_is_turned_before_its_boxes_are_drawn(
    visit: Visit, reader: Server
) -> None:
    page = visit(reader)
    upright = render(ENGLISH)
    image = encode(upright.rotate(90, expand=True))
    read(page, "minutes.png", image)
    expect(page.locator("#text .line")).to_have_text(list(ENGLISH))
    width, height = upright.size
    expect(page.locator("#boxes")).to_have_attribute("viewBox", f"0 0 {width} {height}")
    expect(page.locator("#boxes rect")).to_have_count(len(ENGLISH))
    natural = "[document.getElementById('picture').naturalWidth, picture.naturalHeight]"
    assert page.evaluate(natural) == list(upright.size)
    lines = reader.client.post("/ocr", files={"file": image}).json()["lines"]
    first = page.locator("#boxes rect").first
    assert float(first.get_attribute("x") or 0) == lines[0]["box"][0]
    assert float(first.get_attribute("y") or 0) == lines[0]["box"][1]


def test_an_answer_is_marked_on_a_page_that_lies_on_its_side(visit: Visit, reader: Server) -> None:
    page = visit(reader)
    upright = render(ENGLISH)
    choose(page, "file", ("minutes.png", encode(upright.rotate(180, expand=True))))
    ask(page, "When is the next meeting?")
    expect(page.locator("#answers .said")).to_have_text(ENGLISH[-1])
    expect(page.locator("#boxes .mark")).to_have_count(1)
    mark = page.locator("#boxes .mark")
    assert float(mark.get_attribute("y") or 0) > upright.height / 2


def test_pointing_at_a_line_shows_its_box(visit: Visit, reader: Server) -> None:
    page = visit(reader)
    read(page, "minutes.png", encode(render(ENGLISH)))
    page.locator("#text .line").nth(2).hover()
    expect(page.locator("#boxes .lit")).to_have_count(1)
    assert "lit" in (page.locator("#boxes rect").nth(2).get_attribute("class") or "")


def test_the_blocks_of_the_layout_are_drawn_where_the_model_gives_them(
    visit: Visit, reader: Server
) -> None:
    page = visit(reader)
    image = encode(render([*ENGLISH[:2], "", "", "", *ENGLISH[2:4]]))
    layout = page.get_by_label("Layout")
    layout.check()
    read(page, "minutes.png", image)
    answer = reader.client.post("/ocr", files={"file": image}, data={"mode": "layout"}).json()
    texts = [block["text"] for block in answer["blocks"]]
    assert "\n".join(texts).split("\n") == list(ENGLISH[:4])
    expect(page.locator("#text .block")).to_have_text(texts)
    assert page.locator("#text .block").first.get_attribute("data-remark") == "Text"
    for number, block in enumerate(answer["blocks"]):
        box = page.locator("#boxes rect.block").nth(number)
        left, top, right, bottom = block["box"]
        drawn = [float(box.get_attribute(name) or 0) for name in ("x", "y", "width", "height")]
        assert drawn == [left, top, right - left, bottom - top]
    expect(page.locator("#boxes rect")).to_have_count(len(texts))
    expect(page.locator("#legend")).to_be_hidden()


def test_a_model_is_offered_the_options_it_takes_and_no_other(visit: Visit, reader: Server) -> None:
    page = visit(reader)
    layout, formatted = page.get_by_label("Layout"), page.get_by_label("Keep formatting")
    expect(layout).to_be_visible()
    expect(formatted).to_be_visible()
    page.select_option("#model", "dots_ocr")
    expect(formatted).to_be_hidden()
    layout.check()
    page.select_option("#model", "got_ocr")
    expect(layout).to_be_hidden()
    formatted.check()
    page.route("**/ocr", lambda route: route.fulfill(status=503, json={"detail": "Not here."}))
    with page.expect_request("**/ocr") as asked:
        read(page, "minutes.png", encode(render(ENGLISH)))
    sent = asked.value.post_data_buffer or b""
    assert b'name="formatted"' in sent
    assert b'name="mode"' not in sent


def test_the_page_says_that_it_is_reading_until_it_is_stopped(visit: Visit, reader: Server) -> None:
    page = visit(reader)
    page.route("**/ocr", lambda route: None)
    read(page, "minutes.png", encode(render(ENGLISH)))
    about = page.locator("#reading > .about")
    expect(about).to_have_text("Reading…")
    page.locator("#read .stop").click()
    expect(about).to_be_empty()
    expect(page.locator("#read .primary")).to_be_enabled()


def test_the_pages_of_a_pdf_are_shown_beside_their_text(visit: Visit, reader: Server) -> None:
    page = visit(reader)
    read(page, "minutes.pdf", pdf(ENGLISH[:2], ENGLISH[2:4], ENGLISH[4:]))
    expect(page.locator("#text .line")).to_have_text(list(ENGLISH[:2]))
    expect(page.locator("#number")).to_have_text("1 of 3")
    first = page.get_attribute("#picture", "src")
    page.get_by_role("button", name="Next page").click()
    expect(page.locator("#number")).to_have_text("2 of 3")
    expect(page.locator("#text .line")).to_have_text(list(ENGLISH[2:4]))
    assert page.get_attribute("#picture", "src") != first
    expect(page.locator("#boxes rect")).to_have_count(2)


def test_some_pages_are_read_and_the_others_say_that_they_were_not(
    visit: Visit, reader: Server
) -> None:
    page = visit(reader)
    choose(page, "file", ("minutes.pdf", pdf(ENGLISH[:2], ENGLISH[2:4])))
    page.get_by_label("Pages").first.fill("2")
    page.click("#read .primary")
    expect(page.locator("#text")).to_have_text("This page was not read.")
    page.get_by_role("button", name="Next page").click()
    expect(page.locator("#text .line")).to_have_text(list(ENGLISH[2:4]))


def test_a_tiff_that_no_browser_shows_is_shown(visit: Visit, reader: Server) -> None:
    page = visit(reader)
    choose(page, "file", ("scan.tif", tiff(render(ENGLISH))))
    expect(page.locator("#picture")).to_be_visible()
    assert page.evaluate("document.getElementById('picture').naturalWidth") > 100


def test_what_was_read_is_saved_as_text_markdown_and_json(visit: Visit, reader: Server) -> None:
    page = visit(reader)
    read(page, "minutes.pdf", pdf(ENGLISH[:1], ENGLISH[1:2]))
    expect(page.locator("#text .line")).to_have_text(list(ENGLISH[:1]))
    assert saved(page, "Text") == ("minutes.txt", "\f".join(ENGLISH[:2]) + "\n")
    assert saved(page, "Markdown") == (
        "minutes.md",
        f"# minutes.pdf\n\n## Page 1\n\n{ENGLISH[0]}\n\n## Page 2\n\n{ENGLISH[1]}\n",
    )
    name, answer = saved(page, "JSON")
    assert name == "minutes.json"
    assert [line["text"] for line in json.loads(answer)["pages"][1]["lines"]] == [ENGLISH[1]]


def test_rows_of_cells_are_saved_as_a_table_of_markdown(visit: Visit, reader: Server) -> None:
    page = visit(reader)
    rows = (("Name", "Art", "Total"), ("Alice Brown", "4", "9"), ("Mary White", "7", "8"))
    read(page, "grades.png", encode(draw_table(rows, (40, 300, 500))))
    expect(page.locator("#text .line")).to_have_text(["\t".join(row) for row in rows])
    assert saved(page, "Markdown")[1] == (
        "# grades.png\n\n"
        "| Name | Art | Total |\n"
        "| --- | --- | --- |\n"
        "| Alice Brown | 4 | 9 |\n"
        "| Mary White | 7 | 8 |\n"
    )


def test_what_was_read_is_copied(visit: Visit, reader: Server) -> None:
    page = visit(reader, permissions=["clipboard-read", "clipboard-write"])
    read(page, "minutes.png", encode(render(ENGLISH)))
    page.get_by_role("button", name="Copy").click()
    expect(page.get_by_text("Copied")).to_be_visible()
    assert page.evaluate("navigator.clipboard.readText()") == "\n".join(ENGLISH) + "\n"


def test_a_question_is_answered_and_marked_on_the_page(visit: Visit, reader: Server) -> None:
    page = visit(reader)
    choose(page, "file", ("minutes.png", encode(render(ENGLISH))))
    ask(page, "When is the next meeting?")
    expect(page.locator("#answers .said")).to_have_text(ENGLISH[-1])
    expect(page.locator("#boxes .mark")).to_have_count(1)


def test_an_answer_is_shown_while_it_is_made_and_can_be_stopped(
    visit: Visit, fleet: Server
) -> None:
    page = visit(fleet)
    page.select_option("#model", RAMBLING)
    endless = "temperature=0&max_tokens=4096"
    page.route("**/chat", lambda route: route.continue_(url=f"{route.request.url}?{endless}"))
    choose(page, "file", ("minutes.png", encode(render(ENGLISH))))
    ask(page, "What is this?")
    said = page.locator("#answers .said")
    expect(said).not_to_be_empty()
    expect(said).to_have_attribute("aria-busy", "true")
    page.locator("#asking .stop").click()
    expect(page.locator("#answers .about")).to_have_text("Stopped.")
    expect(said).to_have_attribute("aria-busy", "false")


@pytest.mark.parametrize(
    ("file", "says"),
    [
        (b"no picture", "The file is not a readable image or PDF"),
        (pdf(), "The PDF has no pages."),
    ],
)
def test_what_cannot_be_shown_is_told_in_the_services_sentence(
    file: bytes, says: str, visit: Visit, reader: Server
) -> None:
    page = visit(reader)
    choose(page, "file", ("page.pdf", file))
    expect(page.get_by_role("alert").filter(has_text=says)).to_be_visible()
    expect(page.locator("#sheet")).to_be_hidden()
    expect(page.locator("#read .primary")).to_be_disabled()


def test_what_cannot_be_read_is_told_in_the_services_sentence(visit: Visit, reader: Server) -> None:
    page = visit(reader)
    page.fill("#language", "Elvish")
    read(page, "minutes.png", encode(render(ENGLISH)))
    expect(page.locator("#reading [role=alert]")).to_contain_text("Unknown language 'Elvish'")
    page.select_option("#model", "got_ocr")
    ask(page, "What is this?")
    expect(page.locator("#asking [role=alert]")).to_contain_text("'got_ocr' is not served here")
    expect(page.locator("#answers li")).to_have_count(0)


def test_a_service_that_is_gone_is_told_in_a_sentence(visit: Visit, reader: Server) -> None:
    page = visit(reader)
    choose(page, "file", ("minutes.png", encode(render(ENGLISH))))
    expect(page.locator("#sheet")).to_be_visible()
    page.context.set_offline(True)
    page.click("#read .primary")
    expect(page.locator("#reading [role=alert]")).to_have_text(
        "The service does not answer; is it running?"
    )


def test_untrusted_text_is_never_taken_for_markup(visit: Visit, reader: Server) -> None:
    page = visit(reader)
    answer = {
        "text": HOSTILE,
        "model": HOSTILE,
        "processing_time": 1,
        "image_size": [9, 9],
        "warning": HOSTILE,
    }
    page.route("**/ocr", lambda route: route.fulfill(json=answer))
    read(page, f"{HOSTILE}.png", encode(render(ENGLISH)))
    expect(page.locator("#text .line")).to_have_text(HOSTILE)
    expect(page.locator("#text .note")).to_have_text(HOSTILE)
    expect(page.locator("img")).to_have_count(2)


def test_a_batch_shows_its_progress_and_the_fate_of_each_file(visit: Visit, reader: Server) -> None:
    page = visit(reader)
    page.get_by_role("link", name="Batch").click()
    files = [(f"{number}.png", encode(render(ENGLISH[:1]))) for number in range(4)]
    choose(page, "files", *files, ("notes.txt", b"no picture"), ("ru.png", encode(render(RUSSIAN))))
    expect(page.locator("#batch progress")).to_have_attribute("max", "6")
    expect(page.locator("#progress [role=status]")).to_have_text("6 of 6 done, failed: 1")
    expect(page.locator("#batch progress")).to_have_attribute("value", "6")
    expect(page.locator("#results .failed")).to_contain_text("The file is not a readable image")
    expect(page.locator("#results .done")).to_have_count(5)
    page.get_by_text("ru.png").click()
    expect(page.locator("#results [open] .text").last).to_have_text("\n".join(RUSSIAN))


def test_models_are_loaded_and_unloaded(visit: Visit, fleet: Server) -> None:
    model = next(model for model in SAYS if model.startswith("qwen"))
    fleet.client.delete(f"/models/{model}")
    page = visit(fleet)
    page.get_by_role("link", name="Models").click()
    row = page.locator("#fleet li").filter(has_text=model)
    expect(row.locator(".badge").first).to_have_text("not loaded")
    row.get_by_role("button", name="Load").click()
    expect(row.locator(".badge").first).to_have_text("loaded")
    assert model in fleet.client.get("/health").json()["loaded_models"]
    row.get_by_role("button", name="Unload").click()
    expect(row.locator(".badge").first).to_have_text("not loaded")
    assert model not in fleet.client.get("/health").json()["loaded_models"]


@pytest.mark.parametrize(("locale", "says"), [("en-GB", "Read"), ("ru-RU", "Прочитать")])
def test_the_page_speaks_the_browsers_language_and_fits_a_phone(
    locale: str, says: str, visit: Visit, reader: Server
) -> None:
    page = visit(reader, locale, viewport=PHONE)
    expect(page.locator("#read .primary")).to_have_text(says)
    read(page, f"{'long' * 20}.png", encode(render(RUSSIAN)))
    expect(page.locator("#text .line")).to_have_count(len(RUSSIAN))
    for section in ("document", "batch", "models"):
        page.click(f"nav a[href='#{section}']")
        expect(page.locator(f"#{section}")).to_be_visible()
        assert page.evaluate("document.documentElement.scrollWidth") == PHONE["width"]


def test_the_language_can_be_changed_and_is_kept(visit: Visit, reader: Server) -> None:
    page = visit(reader)
    read(page, "minutes.pdf", pdf(ENGLISH, ENGLISH))
    expect(page.locator("#number")).to_have_text("1 of 2")
    page.get_by_role("button", name="Русский").click()
    expect(page.locator("#number")).to_have_text("1 из 2")
    page.reload()
    expect(page.locator("#read .primary")).to_have_text("Прочитать")
    assert page.evaluate("document.documentElement.lang") == "ru"


def test_the_page_may_load_nothing_from_other_hosts(reader: Server) -> None:
    page = httpx.get(f"{reader.client.base_url}/playground", follow_redirects=True)
    assert "default-src 'self'" in page.headers["content-security-policy"]
    assert "://" not in page.text
