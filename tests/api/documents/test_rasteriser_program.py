import io
import json
import subprocess
import sys
from pathlib import Path

import psutil  # type: ignore[import-untyped]
import pytest

from api.documents import rasteriser
from api.documents.opening import Documents
from common.images import decode, is_blank
from settings import Settings
from tests.support.documents import A4, pdf, tiff
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
    header = {"size": len(document), "kind": "PDF", "dpi": 72, "max_pixels": 10**8, "seconds": 30}
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
    header = {"size": len(document), "kind": "PDF", "dpi": 72, "max_pixels": 10**8, "seconds": 30}
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
