"""The embedded reader over HTTP, on pages whose text is known to the letter."""

import base64
import io
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from PIL import Image, ImageOps

from tests.support.pages import ENGLISH, RUSSIAN, encode, render
from tests.support.server import Server

PAGES = {"English": ENGLISH, "Russian": RUSSIAN}
FORMATS = ("JPEG", "PNG", "BMP", "TIFF", "WEBP", "GIF", "AVIF", "JPEG2000")
SIDEWAYS = 6
"""The EXIF orientation that a viewer turns 90 degrees clockwise."""


def read(server: Server, file: bytes, **params: str) -> dict[str, Any]:
    response = server.client.post("/ocr", files={"file": file}, params=params)
    assert response.status_code == 200, response.text
    return response.json()


def text_of(server: Server, image: Image.Image, format: str = "PNG") -> str:
    return read(server, encode(image, format))["text"]


@pytest.mark.parametrize("lines", PAGES.values(), ids=PAGES)
@pytest.mark.parametrize("rotation", [0, 90, 180, 270, 3, -4, 7])
def test_a_page_is_read_to_the_letter_however_it_lies(
    lines: tuple[str, ...], rotation: float, reader: Server
) -> None:
    assert text_of(reader, render(lines, rotation=rotation)) == "\n".join(lines)


@pytest.mark.parametrize("lines", PAGES.values(), ids=PAGES)
@pytest.mark.parametrize("format", FORMATS)
def test_a_page_is_read_to_the_letter_in_every_format(
    lines: tuple[str, ...], format: str, reader: Server
) -> None:
    assert text_of(reader, render(lines), format) == "\n".join(lines)


def test_a_photo_is_turned_as_its_camera_says(reader: Server) -> None:
    upright = render(ENGLISH)
    exif = Image.Exif()
    exif[0x0112] = SIDEWAYS
    file = io.BytesIO()
    upright.rotate(90, expand=True).save(file, "JPEG", exif=exif, quality=95)
    answer = read(reader, file.getvalue())
    assert answer["text"] == "\n".join(ENGLISH)
    assert answer["image_size"] == list(upright.size)


def test_ink_on_a_transparent_page_is_read_as_on_white(reader: Server) -> None:
    page = render(ENGLISH).convert("L")
    ink = Image.new("L", page.size, 0)
    ink.putalpha(ImageOps.invert(page))
    assert text_of(reader, ink) == "\n".join(ENGLISH)


@pytest.mark.parametrize(("mode", "format"), [("P", "PNG"), ("L", "TIFF"), ("CMYK", "JPEG")])
def test_palette_grey_and_cmyk_pages_are_read(mode: str, format: str, reader: Server) -> None:
    assert text_of(reader, render(RUSSIAN).convert(mode), format) == "\n".join(RUSSIAN)


def test_sixteen_bits_a_pixel_are_read(reader: Server) -> None:
    page = render(RUSSIAN).convert("I").point(lambda value: value * 257).convert("I;16")
    assert text_of(reader, page) == "\n".join(RUSSIAN)


def test_what_a_file_is_called_does_not_matter(reader: Server) -> None:
    misnamed = ("page.bmp", encode(render(ENGLISH), "WEBP"), "text/plain")
    response = reader.client.post("/ocr", files={"file": misnamed})
    assert response.json()["text"] == "\n".join(ENGLISH)


def test_each_line_has_a_box_around_its_ink(reader: Server) -> None:
    page = render(RUSSIAN, font_px=24, margin=40)
    answer = read(reader, encode(page))
    assert answer["image_size"] == list(page.size)
    assert [line["text"] for line in answer["lines"]] == list(RUSSIAN)
    for number, line in enumerate(answer["lines"]):
        x0, y0, x1, y1 = line["box"]
        assert 0 <= x0 < x1 <= page.width
        top = 40 + 36 * number
        assert top - 6 <= y0 < y1 <= top + 38  # the detector leaves paper around the ink
        assert 0.9 < line["confidence"] <= 1


@pytest.mark.parametrize(("rotation", "degrees"), [(0, 0), (90, 90), (180, 180), (270, 270)])
def test_the_boxes_lie_on_the_preview_that_is_turned_as_the_answer_says(
    rotation: int, degrees: int, reader: Server
) -> None:
    upright = render(RUSSIAN)
    file = encode(upright.rotate(rotation, expand=True))
    answer = read(reader, file)
    assert answer["rotation"]["degrees"] == degrees
    assert abs(answer["rotation"]["skew"]) < 0.5
    sent = {"files": {"file": file}, "data": {"rotation": str(answer["rotation"]["degrees"])}}
    shown = reader.client.post("/preview", **sent).json()
    assert shown["image_size"] == answer["image_size"] == list(upright.size)
    picture = Image.open(io.BytesIO(base64.b64decode(shown["image"].partition(",")[2])))
    for line in answer["lines"]:
        ink = ImageOps.invert(picture.convert("L").crop(line["box"])).getbbox()
        assert ink is not None


def test_layout_mode_gives_the_lines_as_blocks(reader: Server) -> None:
    answer = read(reader, encode(render(ENGLISH)), mode="layout")
    assert "\n".join(block["text"] for block in answer["blocks"]) == "\n".join(ENGLISH)


@pytest.mark.parametrize("hint", ["ru", "rus", "Russian", "RUSSIAN", "Русский", "русский", "ru-RU"])
def test_a_hint_in_any_spelling_is_taken_and_given_back(hint: str, reader: Server) -> None:
    answer = read(reader, encode(render(RUSSIAN)), language=hint)
    assert (answer["text"], answer["language"]) == ("\n".join(RUSSIAN), hint)


def test_an_unknown_language_is_named_in_the_refusal(reader: Server) -> None:
    page = encode(render(RUSSIAN[:1]))
    response = reader.client.post("/ocr", files={"file": page}, params={"language": "Elbonian"})
    assert response.status_code == 400
    assert "Elbonian" in response.json()["detail"]


def test_the_same_page_gives_the_same_answer_from_either_process(reader: Server) -> None:
    page = encode(render(ENGLISH, noise=40))
    with ThreadPoolExecutor() as pool:
        answers = list(pool.map(lambda _: read(reader, page), range(5)))
    for answer in answers:
        del answer["processing_time"]
    assert answers[0]["text"]
    assert answers[1:] == answers[:-1]


def test_a_blank_page_has_no_text(reader: Server) -> None:
    answer = read(reader, encode(Image.new("RGB", (800, 600), "white")))
    assert (answer["text"], answer["lines"]) == ("", [])


def test_a_batch_keeps_its_order_and_a_bad_file_touches_no_other(reader: Server) -> None:
    files = [
        ("files", ("one.png", encode(render(ENGLISH)))),
        ("files", ("two.jpg", b"no image")),
        ("files", ("three.png", encode(render(RUSSIAN)))),
    ]
    answer = reader.client.post("/batch/ocr", files=files).json()
    one, two, three = answer["results"]
    assert [one["filename"], one["text"]] == ["one.png", "\n".join(ENGLISH)]
    assert two == {"code": "bad_image", "error": two["error"]} | {
        "filename": "two.jpg",
        "status": "error",
    }
    assert [three["filename"], three["text"]] == ["three.png", "\n".join(RUSSIAN)]
    assert (answer["total"], answer["successful"], answer["failed"]) == (3, 2, 1)
