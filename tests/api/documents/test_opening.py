import asyncio

import psutil  # type: ignore[import-untyped]
import pytest
from PIL import Image

from api.documents import opening
from api.documents.opening import Documents
from common.failures import ErrorCode, Refusal
from common.images import INCOMPLETE, decode
from settings import Settings
from tests.support.fakes.runner import picture
from tests.support.files.documents import layered, locked, pdf, tiff, wide_pages
from tests.support.pages import ENGLISH, RUSSIAN, encode, render


async def sizes(data: bytes, **settings) -> list[tuple[int, int] | str]:
    """What became of each page: its size as it was drawn, or the sentence of its refusal."""
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


async def test_every_page_of_a_tiff_is_a_page_and_one_alone_an_image():
    first, second = render(ENGLISH), render(RUSSIAN).convert("1")
    assert await sizes(tiff(first, second)) == [first.size, second.size]
    async with Documents(Settings()).open(tiff(first)) as pages:
        assert not pages.is_document


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
            "The file is not a readable image or PDF: send JPEG, PNG, BMP, TIFF, WebP, GIF, HEIC, "
            "AVIF, JPEG 2000 or PDF.",
        ),
    ],
)
async def test_what_cannot_be_opened_is_told_why(data, sentence):
    assert await refusal(data) == (ErrorCode.BAD_IMAGE, sentence)


async def test_so_many_documents_are_open_at_once_and_more_wait(monkeypatch):
    monkeypatch.setattr(opening, "MAX_OPEN_PDFS", 2)
    opener = Documents(Settings())

    async def hold() -> int:
        async with opener.open(pdf(ENGLISH)):
            await asyncio.sleep(0.1)
            return len(children())

    assert max(await asyncio.gather(*(hold() for _ in range(5)))) <= 2


async def test_the_text_layer_of_a_page_fits_its_image():
    async with Documents(Settings()).open(pdf(ENGLISH, ())) as pages:
        for most in (None, 100_000):
            text = await pages.text_layer(1, most)
            assert text.size == decode(await pages.image(1, most)).size
            assert [line.text for line in text.lines] == [
                line.replace("'", "’") for line in ENGLISH
            ]
        assert await pages.text_layer(2) is None


async def test_images_and_pages_of_a_tiff_have_no_text_layer():
    for data in (picture(), tiff(*[render(ENGLISH)] * 2)):
        async with Documents(Settings()).open(data) as pages:
            assert await pages.text_layer(1) is None


async def test_a_page_whose_text_layer_ends_the_process_has_none_and_is_drawn():
    async with Documents(Settings()).open(pdf(ENGLISH)) as pages:
        (process,) = children()
        process.kill()
        assert await pages.text_layer(1) is None
        assert await pages.image(1)


async def test_a_page_whose_picture_lacks_its_end_has_a_warning():
    picture = render(ENGLISH)
    for cut, warning in ((0, None), (2, INCOMPLETE), (2000, INCOMPLETE)):
        async with Documents(Settings()).open(layered(picture, (), cut=cut)) as pages:
            assert await pages.image(1)
            assert await pages.warning(1) == warning


async def test_images_and_pages_of_a_tiff_have_no_warning_of_their_own():
    for data in (encode(render(ENGLISH)), wide_pages(5, 6)):
        async with Documents(Settings()).open(data) as pages:
            assert await pages.warning(1) is None


async def test_a_page_that_cannot_be_checked_has_no_warning():
    async with Documents(Settings()).open(pdf(ENGLISH, None)) as pages:
        assert await pages.warning(2) is None
