"""Images whose decoding takes much memory are made manageable, and no page takes too much."""

import io
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from PIL import ExifTags, Image

from common.catalog import CATALOG
from common.deadline import Deadline
from common.failures import ErrorCode, Refusal
from common.images import INCOMPLETE
from common.messages import Answer, Request, single_turn
from runners.reader import large_images
from runners.reader.engine import ReaderEngine
from settings import Settings
from tests.support.pages import ENGLISH, encode, render, size_of

MOST_MB = 700
START_OF_SCAN = b"\xff\xda"
"""What the pixels of a JPEG begin with."""


@pytest.fixture(scope="module")
def coloured() -> bytes:
    """A page with more pixels than are read, its text 1000 pixels from the left."""
    page = Image.new("RGB", (6000, 5400), "white")
    page.paste(render(ENGLISH, 80, ink="navy", margin=0), (1000, 2000))
    return encode(page, "JPEG")


@pytest.fixture
async def engine() -> AsyncIterator[ReaderEngine]:
    engine = ReaderEngine(CATALOG["reader"], Settings(reader_processes=1))
    yield engine
    await engine.close()


async def read(engine: ReaderEngine, data: bytes) -> Answer:
    turns = single_turn([data])
    request = Request.model_validate({"task": "ocr", "turns": turns, "max_tokens": 4096})
    return await engine.answer(request, Deadline(120))


def most_memory(process: int | None) -> float:
    """The most memory that the process has taken, MB."""
    status = Path(f"/proc/{process}/status").read_text()
    [peak] = [line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:")]
    return int(peak) / 1000


def manageable(data: bytes) -> large_images.ManageableImage:
    return large_images.load()(data, lambda: None)


@pytest.mark.parametrize(
    ("mode", "format", "rows", "is_large"),
    [
        ("L", "PNG", 30_000, False),
        ("1", "PNG", 30_000, False),
        ("RGB", "JPEG", 9_000, False),
        ("RGB", "JPEG", 11_000, True),
        ("P", "PNG", 9_000, False),
        ("P", "PNG", 11_000, True),
        ("RGBA", "PNG", 4_500, False),
        ("RGBA", "PNG", 5_500, True),
        ("CMYK", "JPEG", 5_500, True),
        ("RGB", "WEBP", 5_500, True),
    ],
)
def test_what_is_large_depends_on_what_its_decoder_takes(
    mode: str, format: str, rows: int, is_large: bool
) -> None:
    assert large_images.is_large(encode(Image.new(mode, (2000, rows)), format)) is is_large


def test_what_is_no_image_is_not_large() -> None:
    assert not large_images.is_large(b"no image")


def test_a_large_image_in_colours_has_fewer_pixels(coloured: bytes) -> None:
    image = manageable(coloured)
    width, height = size_of(image.data)
    assert image.size == (6000, 5400)
    assert 19_900_000 < width * height <= 20_000_000
    assert width / height == pytest.approx(6000 / 5400, rel=0.001)


@pytest.mark.parametrize(
    ("size", "options", "read"),
    [
        ((6000, 5400), {}, (3000, 2700)),
        ((5400, 6000), {"num_resolutions": 1}, (4242, 4714)),
        ((5000, 5000), {}, (4472, 4472)),
    ],
)
def test_a_jpeg_2000_is_decoded_in_half_its_size_where_that_is_large_and_stored(
    size: tuple[int, int], options: dict[str, int], read: tuple[int, int]
) -> None:
    page = Image.new("RGB", size, "white")
    page.paste("navy", (size[0] // 2, 0, *size))
    image = manageable(encode(page, "JPEG2000", **options))
    assert image.size == size
    with Image.open(io.BytesIO(image.data)) as smaller:
        assert smaller.size == read
        assert smaller.getpixel((read[0] // 4, read[1] // 2)) == (255, 255, 255)
        assert smaller.getpixel((read[0] * 3 // 4, read[1] // 2)) == (0, 0, 128)


def test_a_large_image_that_lies_on_its_side_has_its_upright_size() -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    page = encode(Image.new("RGB", (6000, 5400), "white"), "JPEG", exif=exif)
    assert manageable(page).size == (5400, 6000)


def test_a_large_image_without_colours_keeps_its_pixels() -> None:
    grey = Image.radial_gradient("L").resize((3000, 2000))
    image = manageable(encode(grey, "PNG"))
    assert size_of(image.data) == (3000, 2000)


def test_what_is_missing_of_a_large_image_is_said(coloured: bytes) -> None:
    assert manageable(coloured[: len(coloured) * 2 // 3]).warnings == (INCOMPLETE,)


async def test_boxes_and_size_are_those_of_the_image_as_it_was_sent(
    engine: ReaderEngine, coloured: bytes
) -> None:
    answer = await read(engine, coloured)
    assert answer.image_size == (6000, 5400)
    assert answer.lines is not None
    assert [line.text for line in answer.lines] == list(ENGLISH)
    for number, line in enumerate(answer.lines):
        left, top, _, bottom = line.box
        assert left == pytest.approx(1000, abs=20)
        assert top < 2000 + 120 * number + 50 < bottom
        assert line.words is not None
        assert line.words[0].box[0] == left


async def test_a_large_image_of_which_nothing_can_be_decoded_is_refused(
    engine: ReaderEngine, coloured: bytes
) -> None:
    with pytest.raises(Refusal) as refusal:
        await read(engine, coloured[: coloured.index(START_OF_SCAN) + 14])
    assert refusal.value.code is ErrorCode.BAD_IMAGE


async def test_the_process_that_made_an_image_manageable_is_gone(
    engine: ReaderEngine, coloured: bytes
) -> None:
    await read(engine, coloured)
    assert engine._decoding.workers == []


@pytest.mark.skipif(sys.platform != "linux", reason="/proc has the most memory that was taken")
async def test_no_page_takes_more_memory_than_a_process_may(engine: ReaderEngine) -> None:
    leaning = Image.new("RGB", (8900, 8900), "white")
    leaning.paste(render(ENGLISH, 150, ink="navy", rotation=20), (100, 100))
    long = Image.new("RGB", (1080, 25_000), "white")
    long.paste(render(ENGLISH * 3, 24, ink="navy"), (0, 12_000))
    ruled = Image.new("RGB", (2480, 3508), "white")
    ruled.paste(render(ENGLISH, 60, ink="navy"), (100, 100))
    ruled.paste("black", (90, 0, 94, ruled.height))
    for page in (leaning, long, leaning.convert("L"), ruled):
        answer = await read(engine, encode(page, "JPEG"))
        assert ENGLISH[2] in answer.text
    (worker,) = engine._pool.workers
    peak = most_memory(worker.pid)
    assert peak < MOST_MB
