import asyncio
import io
import os
import signal
import sys
import time

import psutil  # type: ignore[import-untyped]
import pytest
from PIL import Image

from api.documents import pages as pages_module
from api.documents.pages import Documents, chosen
from common.failures import ErrorCode, Refusal
from common.images import decode, is_blank
from settings import Settings
from tests.support.documents import A4, locked, pdf, tiff
from tests.support.fake_runner import picture
from tests.support.pages import ENGLISH, RUSSIAN, encode, render


async def sizes(data: bytes, **settings) -> list[tuple[int, int] | str]:
    """Of all pages as they were drawn; of one that was refused, the sentence."""
    found: list[tuple[int, int] | str] = []
    async with Documents(Settings(**settings)).open(data) as pages:
        for number in range(1, pages.count + 1):
            try:
                found.append(decode(await pages.image(number)).size)
            except Refusal as refusal:
                found.append(refusal.failure.detail)
    return found


async def refusal(data: bytes, **settings) -> tuple[ErrorCode, str]:
    with pytest.raises(Refusal) as caught:
        await sizes(data, **settings)
    return caught.value.code, caught.value.failure.detail


def children() -> list[psutil.Process]:
    return psutil.Process().children()


async def test_an_image_is_handed_on_as_it_came():
    data = picture(5, 3, "WEBP")
    async with Documents(Settings()).open(data) as pages:
        assert (pages.is_document, pages.count) == (False, 1)
        assert await pages.image(1) == data
        assert children() == []


async def test_a_page_is_drawn_at_the_resolution_that_is_set():
    assert await sizes(pdf(ENGLISH)) == [(1653, 2339)]
    assert await sizes(pdf(ENGLISH), pdf_dpi=72) == [A4]


@pytest.mark.parametrize("turn", [90, 180, 270])
async def test_a_page_that_is_shown_turned_is_drawn_as_it_is_seen(turn):
    async with Documents(Settings(pdf_dpi=72)).open(pdf(ENGLISH, turn=turn)) as pages:
        turned = decode(await pages.image(1)).convert("L")
    async with Documents(Settings(pdf_dpi=72)).open(pdf(ENGLISH)) as pages:
        upright = decode(await pages.image(1)).convert("L")
    boxes = [image.point(lambda grey: 255 * (grey < 128)).getbbox() for image in (turned, upright)]
    assert turned.size == upright.size
    assert boxes[0] == pytest.approx(boxes[1], abs=2)


async def test_a_page_of_ten_square_metres_is_drawn_smaller():
    [(width, height)] = await sizes(pdf(ENGLISH, size=(5669, 14173)), max_image_pixels=1_000_000)
    assert width * height == pytest.approx(1_000_000, rel=0.01)
    assert width / height == pytest.approx(0.4, rel=0.01)


@pytest.mark.parametrize("most", [1000, 1001, 99_999])
async def test_a_page_is_never_drawn_with_more_pixels_than_asked_for(most):
    for shape in ((595, 842), (842, 595.3), (3, 5000), (14000, 14000)):
        async with Documents(Settings()).open(pdf(ENGLISH, size=shape)) as pages:
            width, height = decode(await pages.image(1, most)).size
        assert most / 2 < width * height <= most


async def test_a_page_without_ink_is_blank():
    async with Documents(Settings()).open(pdf(())) as pages:
        assert is_blank(decode(await pages.image(1)))


async def test_a_hidden_layer_of_text_is_not_drawn():
    async with Documents(Settings()).open(pdf((), hidden="no such words")) as pages:
        assert is_blank(decode(await pages.image(1)))


async def test_every_page_of_a_tiff_is_a_page_and_one_alone_an_image():
    first, second = render(ENGLISH), render(RUSSIAN).convert("1")
    assert await sizes(tiff(first, second)) == [first.size, second.size]
    async with Documents(Settings()).open(tiff(first)) as pages:
        assert not pages.is_document


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGBA", "CMYK", "I;16", "F"])
async def test_a_page_of_a_tiff_looks_as_the_same_image_alone(mode):
    page = (
        render(ENGLISH).convert("L").convert("F" if mode == "F" else "I" if ";" in mode else "RGB")
    )
    page = page.convert(mode)
    async with Documents(Settings()).open(tiff(page, page)) as pages:
        drawn = decode(await pages.image(2))
    assert drawn.tobytes() == decode(encode(page, "TIFF")).tobytes()


async def test_a_smaller_version_of_a_page_in_a_tiff_is_no_page():
    file = io.BytesIO()
    page = render(ENGLISH)
    thumbnail = page.resize((70, 20))
    thumbnail.encoderinfo = {"tiffinfo": {254: 1}}
    page.save(file, "TIFF", save_all=True, append_images=[thumbnail])
    assert await sizes(file.getvalue()) == [page.size]


async def test_one_bad_page_fails_alone():
    good = (1653, 2339)
    assert await sizes(pdf(ENGLISH, None, RUSSIAN[:0])) == [
        good,
        "Page 2 of the PDF is broken: it cannot be drawn.",
        good,
    ]


async def test_the_pages_of_a_tiff_before_its_cut_are_drawn():
    pages = [render(ENGLISH)] * 3
    data = tiff(*pages)
    assert await sizes(data[: len(data) * 2 // 3]) == [
        *[pages[0].size] * 2,
        "Page 3 of the TIFF is broken: it cannot be drawn.",
    ]


async def test_a_page_of_a_tiff_with_too_many_pixels_fails_alone():
    data = tiff(Image.new("1", (30, 30)), Image.new("1", (300, 300)))
    assert await sizes(data, max_image_pixels=1000) == [
        (30, 30),
        "Page 2 has 300 x 300 pixels; at most 1000 are read.",
    ]


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (locked(), "The PDF is protected by a password: remove it and send the file again."),
        (pdf(), "The PDF has no pages."),
        (b"%PDF-1.7\nnothing", "The PDF is broken or truncated: it could not be opened."),
        (pdf(ENGLISH)[:300], "The PDF is broken or truncated: it could not be opened."),
        (b"", "The file is empty."),
        (
            b"II*\0" + bytes(99),
            "The file is no image, or a broken one: send JPEG, PNG, BMP, TIFF, WebP or PDF.",
        ),
    ],
)
async def test_what_cannot_be_opened_is_told_why(data, sentence):
    assert await refusal(data) == (ErrorCode.BAD_IMAGE, sentence)


async def test_closed_it_leaves_no_process():
    async with Documents(Settings()).open(pdf(ENGLISH)) as pages:
        await pages.image(1)
        assert len(children()) == 1
    assert children() == []


async def test_a_reader_that_goes_in_the_middle_of_a_page_leaves_no_process():
    async def read():
        async with Documents(Settings()).open(pdf(ENGLISH, size=(9000, 9000))) as pages:
            opened.set()
            await pages.image(1)

    opened = asyncio.Event()
    task = asyncio.create_task(read())
    await opened.wait()
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert children() == []


async def test_a_page_that_kills_its_process_fails_alone():
    async with Documents(Settings(pdf_dpi=36)).open(pdf(ENGLISH, ENGLISH)) as pages:
        await pages.image(1)
        children()[0].kill()
        with pytest.raises(Refusal, match="Page 1 of the PDF is broken"):
            await pages.image(1)
        assert await pages.image(2)


async def test_a_page_that_takes_too_long_fails_alone(monkeypatch):
    async with Documents(Settings(pdf_dpi=36)).open(pdf(ENGLISH, ENGLISH)) as pages:
        await pages.image(1)
        os.kill(children()[0].pid, signal.SIGSTOP)
        monkeypatch.setattr(pages_module, "PAGE_SECONDS", 0.1)
        with pytest.raises(Refusal, match="Page 2 of the PDF is broken"):
            await pages.image(2)
        monkeypatch.undo()
        assert await pages.image(2)


@pytest.mark.skipif(sys.platform != "linux", reason="bounds are set on Linux only")
async def test_the_process_is_bounded_in_memory_and_in_time():
    async with Documents(Settings(max_image_pixels=1, request_timeout=5)).open(pdf(ENGLISH)):
        (process,) = children()
        assert process.rlimit(psutil.RLIMIT_CPU)[0] == 6
        assert process.rlimit(psutil.RLIMIT_DATA)[0] == pytest.approx(2**30, rel=0.01)


async def test_so_many_documents_are_open_at_once_and_more_wait(monkeypatch):
    monkeypatch.setattr(pages_module, "OPEN_AT_ONCE", 2)
    opener = Documents(Settings())

    async def hold() -> int:
        async with opener.open(pdf(ENGLISH)):
            await asyncio.sleep(0.1)
            return len(children())

    assert max(await asyncio.gather(*(hold() for _ in range(5)))) <= 2


@pytest.mark.parametrize(
    ("ranges", "pages"),
    [
        (None, [1, 2, 3, 4, 5]),
        (((2, 2),), [2]),
        (((1, 3), (5, 5)), [1, 2, 3, 5]),
        (((4, 5), (1, 1), (4, 4)), [1, 4, 5]),
    ],
)
def test_pages_are_chosen_each_once_and_in_their_order(ranges, pages):
    assert chosen(ranges, 5, 50) == pages


@pytest.mark.parametrize(
    ("ranges", "sentence"),
    [
        (((1, 6),), "There is no page 6: the document has 5 page(s)."),
        (((10**30, 10**30),), f"There is no page {10**30}: the document has 5 page(s)."),
        (
            None,
            "At most 3 page(s) a request are taken, and the document has 5: choose some with "
            "'pages', as in pages=1-3.",
        ),
    ],
)
def test_pages_that_are_not_there_or_too_many_are_refused(ranges, sentence):
    with pytest.raises(Refusal) as caught:
        chosen(ranges, 5, 3)
    assert (caught.value.code, caught.value.failure.detail) == (
        ErrorCode.BAD_PARAMETER,
        sentence,
    )


def test_a_choice_among_a_billion_pages_takes_no_time():
    began = time.perf_counter()
    with pytest.raises(Refusal):
        chosen(None, 10**9, 50)
    assert time.perf_counter() - began < 0.1
