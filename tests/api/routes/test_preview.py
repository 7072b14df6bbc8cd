import base64
import io

import pytest
from PIL import Image

from common.images import INCOMPLETE
from tests.support.fakes.runner import picture
from tests.support.files.documents import pdf, tiff
from tests.support.pages import ENGLISH, encode, render


def opened(answer: dict) -> Image.Image:
    kind, _, data = answer["image"].partition(",")
    assert kind == "data:image/jpeg;base64"
    return Image.open(io.BytesIO(base64.b64decode(data)))


async def test_a_picture_is_one_page(client):
    answer = (await client.post("/preview", files={"file": picture(400, 300)})).json()
    assert (answer["page"], answer["pages"], answer["image_size"]) == (1, 1, [400, 300])
    assert opened(answer).size == (400, 300)


async def test_a_large_picture_is_shrunk_and_its_size_is_told(client):
    answer = (await client.post("/preview", files={"file": picture(4000, 2000)})).json()
    assert answer["image_size"] == [4000, 2000]
    assert opened(answer).size == (1600, 800)


async def test_a_picture_is_shown_upright(client):
    turned = Image.new("RGB", (30, 20), "white")
    exif = Image.Exif()
    exif[0x0112] = 6
    file = io.BytesIO()
    turned.save(file, "JPEG", exif=exif)
    answer = (await client.post("/preview", files={"file": file.getvalue()})).json()
    assert answer["image_size"] == [20, 30]


@pytest.mark.parametrize(
    ("degrees", "size", "corner"),
    [
        ("90", [300, 400], (290, 10)),
        ("180", [400, 300], (390, 290)),
        ("270", [300, 400], (10, 390)),
    ],
)
async def test_a_page_is_turned_as_it_was_read(degrees, size, corner, client):
    page = Image.new("RGB", (400, 300), "white")
    page.paste("black", (0, 0, 20, 20))
    sent = {"files": {"file": encode(page)}, "data": {"rotation": degrees}}
    answer = (await client.post("/preview", **sent)).json()
    shown = opened(answer)
    assert (answer["image_size"], list(shown.size)) == (size, size)
    assert shown.getpixel(corner)[0] < 8
    assert shown.getpixel((10, 10))[0] > 247


@pytest.mark.parametrize("degrees", ["45", "-90", "left"])
async def test_a_page_is_turned_by_quarters_only(degrees, client):
    sent = {"files": {"file": picture()}, "data": {"rotation": degrees}}
    response = await client.post("/preview", **sent)
    assert response.status_code == 400
    assert "rotation" in response.json()["detail"]


async def test_a_page_of_a_document_is_shown(serve):
    document = pdf(("One",), ("Two",), size=(144, 72))
    client = serve(pdf_dpi=72)
    sent = {"files": {"file": document}, "data": {"page": "2"}}
    answer = (await client.post("/preview", **sent)).json()
    assert (answer["page"], answer["pages"], answer["image_size"]) == (2, 2, [144, 72])


async def test_each_page_of_a_tiff_is_its_own(client):
    document = tiff(Image.new("RGB", (8, 8), "red"), Image.new("RGB", (8, 8), "blue"))
    for page, (red, blue) in {"1": (255, 0), "2": (0, 255)}.items():
        sent = {"files": {"file": document}, "data": {"page": page}}
        pixel = opened((await client.post("/preview", **sent)).json()).getpixel((4, 4))
        assert abs(pixel[0] - red) < 8
        assert abs(pixel[2] - blue) < 8


async def test_each_page_of_a_tiff_is_turned_once(client):
    page = Image.new("RGB", (30, 20), "white")
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><r tiff:Orientation="6"/></x:xmpmeta>'
    page.encoderinfo = {"tiffinfo": {0x0112: 6, 700: xmp}}
    file = io.BytesIO()
    page.save(file, "TIFF", save_all=True, append_images=[page], tiffinfo={0x0112: 6, 700: xmp})
    for number in ("1", "2"):
        sent = {"files": {"file": file.getvalue()}, "data": {"page": number}}
        answer = (await client.post("/preview", **sent)).json()
        assert (answer["image_size"], answer["pages"]) == ([20, 30], 2)


async def test_what_is_not_shown_of_a_file_is_told(client):
    cut = encode(render(ENGLISH), "JPEG")[:-500]
    answer = (await client.post("/preview", files={"file": cut})).json()
    assert answer["warning"] == INCOMPLETE
    assert "warning" not in (await client.post("/preview", files={"file": picture()})).json()


@pytest.mark.parametrize(
    ("file", "page", "says"),
    [
        (picture(), "2", "There is no page 2: the document has one page."),
        (pdf(("One",)), "2", "There is no page 2: the document has one page."),
        (picture(), "0", "Parameter 'page'"),
        (picture()[:50], "1", "The image is broken or truncated"),
        (pdf(None, ("Two",)), "1", "Page 1 of the PDF is broken"),
        (b"no picture", "1", "The file is not a readable image"),
    ],
)
async def test_what_cannot_be_shown_is_told_why(file, page, says, client):
    response = await client.post("/preview", files={"file": file}, data={"page": page})
    assert response.status_code == 400
    assert response.json()["detail"].startswith(says)


async def test_too_many_pixels_are_refused_before_they_are_decoded(serve):
    response = await serve(max_image_pixels=100).post("/preview", files={"file": picture(11, 10)})
    assert response.status_code == 413
