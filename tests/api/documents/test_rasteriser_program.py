import io
import json
import subprocess
import sys
from pathlib import Path

import psutil  # type: ignore[import-untyped]
import pytest
from PIL import Image

from api.documents import rasteriser
from api.documents.opening import Documents
from common.images import decode, is_blank
from settings import Settings
from tests.support.files.documents import A4, pdf, tiff, written
from tests.support.pages import ENGLISH, encode, render


async def sizes(data: bytes, **settings) -> list[tuple[int, int]]:
    """Width and height of every page as it was drawn."""
    async with Documents(Settings(**settings)).open(data) as pages:
        return [decode(await pages.image(number + 1)).size for number in range(pages.count)]


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


async def test_a_scan_saved_with_a_point_for_each_pixel_is_drawn_with_its_pixels():
    assert await sizes(scan(Image.new("L", (1800, 2500)), dpi=72)) == [(1800, 2500)]


async def test_a_page_is_drawn_no_smaller_for_its_scan_than_an_a4():
    for size, dpi in (((827, 1169), 100), ((1000, 1400), 72)):
        [(_, height)] = await sizes(scan(Image.new("L", size), dpi))
        assert height == pytest.approx(2339, abs=1)


async def test_a_small_page_is_drawn_with_the_pixels_of_its_scan_but_no_larger_than_an_a4():
    for size, drawn in (((1200, 1600), 1600), ((3000, 4000), 2339)):
        [(_, height)] = await sizes(scan(Image.new("L", size), dpi=1000))
        assert height == pytest.approx(drawn, abs=1)


def scan(image: Image.Image, dpi: float) -> bytes:
    """A PDF of one image."""
    file = io.BytesIO()
    image.save(file, "PDF", resolution=dpi)
    return file.getvalue()


async def test_letters_of_a_page_whose_points_are_larger_are_large_enough():
    """PDFium ignores UserUnit: with 10, an A4 and its letters have a tenth of their size."""
    [(width, height)] = await sizes(pdf(ENGLISH, size=(59.5, 84.2), font=1.2))
    assert 1200 < width < height < 2400
    [(width, height)] = await sizes(pdf(ENGLISH[:1], size=(144, 72), font=14))
    assert (width, height) == (400, 200)  # small, but with letters of the usual size


@pytest.mark.parametrize("font", ["Helvetica", "ArialMT", "TimesNewRomanPSMT", "CourierNewPSMT"])
async def test_cyrillic_in_fonts_that_are_not_embedded_is_drawn(font):
    async with Documents(Settings(pdf_dpi=72)).open(cyrillic(font)) as pages:
        page = decode(await pages.image(1)).convert("L")
    assert page.crop((50, 80, 250, 110)).getextrema()[0] < 100


def cyrillic(font: str) -> bytes:
    """A PDF with a line of Cyrillic capitals, in an encoding of its own as old programs write."""
    names = " ".join(f"/afii{10017 + letter}" for letter in range(32))
    content = "BT /F 20 Tf 60 742 Td (" + "".join(map(chr, range(0xC0, 0xD0))) + ") Tj ET"
    return written(
        [
            "<</Type/Catalog/Pages 2 0 R>>",
            "<</Type/Pages/Count 1/Kids[3 0 R]>>",
            "<</Type/Page/Parent 2 0 R/MediaBox[0 0 595 842]/Resources<</Font<</F 5 0 R>>>>"
            "/Contents 4 0 R>>",
            f"<</Length {len(content)}>>stream\n{content}\nendstream",
            f"<</Type/Font/Subtype/TrueType/BaseFont/{font}/Encoding<</Type/Encoding"
            f"/BaseEncoding/WinAnsiEncoding/Differences[192 {names}]>>>>",
        ]
    )


async def test_what_precedes_a_pdf_is_passed_over():
    data = b"Received: from host by host; some day\n" * 100 + pdf(ENGLISH)
    assert await sizes(data) == [(1653, 2339)]


async def test_a_page_without_ink_is_blank():
    async with Documents(Settings()).open(pdf(())) as pages:
        assert is_blank(decode(await pages.image(1)))


async def test_a_hidden_layer_of_text_is_not_drawn():
    async with Documents(Settings()).open(pdf((), hidden="no such words")) as pages:
        assert is_blank(decode(await pages.image(1)))


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


@pytest.mark.skipif(sys.platform != "linux", reason="bounds are set on Linux only")
async def test_the_process_is_bounded_in_memory_and_in_time():
    async with Documents(Settings(max_image_pixels=1, request_timeout=5)).open(pdf(ENGLISH)):
        (process,) = psutil.Process().children()
        assert process.rlimit(psutil.RLIMIT_CPU)[0] == 6
        assert process.rlimit(psutil.RLIMIT_DATA)[0] == pytest.approx(2**30, rel=0.01)


PROGRAM = Path(rasteriser.__file__).with_name("rasteriser_program.py")


@pytest.mark.parametrize("asked", ["nothing", "half a header", "half a document", "its opening"])
def test_the_program_ends_with_its_gateway(asked):
    """Its gateway is gone once both pipes are closed."""
    document = pdf(ENGLISH)
    header = {"size": len(document), "dpi": 72, "max_pixels": 10**8, "seconds": 30}
    line = json.dumps(header).encode() + b"\n"
    sent = {
        "nothing": b"",
        "half a header": line[:20],
        "half a document": line + document[:50],
        "its opening": line + document,
    }[asked]
    process = start(sent)
    if asked == "its opening":
        assert process.stdout.readline() == b'{"pages": 1}\n'
    assert ends(process)


def test_the_program_ends_with_its_gateway_while_it_draws():
    document = pdf(ENGLISH, size=(9000, 9000))
    header = {"size": len(document), "dpi": 72, "max_pixels": 10**8, "seconds": 30}
    process = start(json.dumps(header).encode() + b"\n" + document)
    assert process.stdout.readline() == b'{"pages": 1}\n'
    process.stdin.write(b"0 80000000\n" * 100)
    process.stdin.flush()
    assert ends(process)


def start(sent: bytes) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(
        [sys.executable, "-P", PROGRAM],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    process.stdin.write(sent)
    process.stdin.flush()
    return process


def ends(process: subprocess.Popen[bytes]) -> bool:
    """Whether the program ends by itself when its pipes are closed."""
    process.stdin.close()
    process.stdout.close()
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        return False
    return True
