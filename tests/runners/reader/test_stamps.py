"""Round stamps, whose text runs along a circle, and circles without such text."""

from collections.abc import Iterator

import pytest
from PIL import Image, ImageDraw
from rapidfuzz.distance import Levenshtein

from runners.reader.reading import Reader
from runners.reader.tessdata import find_tessdata
from settings import Settings
from tests.support.pages import ENGLISH, RUSSIAN, draw_stamp, render

COMPANY_RU = "ОБЩЕСТВО С ОГРАНИЧЕННОЙ ОТВЕТСТВЕННОСТЬЮ * МОСКВА *"
COMPANY_EN = "HARBOUR TRADING COMPANY LIMITED * BRISTOL *"


@pytest.fixture(scope="module")
def reader() -> Iterator[Reader]:
    reader = Reader(find_tessdata(Settings().tessdata))
    yield reader
    reader.close()


def errors(read: str, truth: str) -> float:
    """The share of characters that are wrong, without spaces: the letters of stamps are spaced."""
    wanted, found = "".join(truth.replace("*", "").split()), "".join(read.split())
    return Levenshtein.distance(wanted, found) / len(wanted)


def blank(width: int = 800, height: int = 640) -> Image.Image:
    return Image.new("RGB", (width, height), "white")


@pytest.mark.parametrize(("text", "within"), [(COMPANY_RU, "ВЕКТОР"), (COMPANY_EN, "APPROVED")])
@pytest.mark.parametrize(
    ("middle", "radius", "ink"),
    [((400, 320), 300, "black"), ((560, 330), 190, "#2840c0"), ((300, 300), 240, "#c02030")],
)
def test_reads_around_a_stamp_and_then_within(
    reader: Reader, text: str, within: str, middle: tuple[int, int], radius: int, ink: str
) -> None:
    page = blank()
    draw_stamp(page, middle, radius, text, within=[within], ink=ink)
    read = reader.read(page, None)
    assert errors(read.text, f"{text} {within}") <= 0.03
    assert len(read.blocks) == 2
    left, top, right, bottom = read.lines[0].box
    assert middle[0] - radius <= left < right <= middle[0] + radius
    assert middle[1] - radius <= top < bottom <= middle[1] + radius


@pytest.mark.parametrize(
    ("above", "below"), [("ЗАВОД КРАСНЫЙ МАЯК", "ГОРОД ТУЛА"), ("HARBOUR BOARD", "CITY OF DOVER")]
)
@pytest.mark.parametrize("rotation", [0, 90])
def test_what_is_upright_at_the_bottom_is_read_last(
    reader: Reader, above: str, below: str, rotation: int
) -> None:
    page = blank()
    within = "1921"
    draw_stamp(
        page, (400, 320), 260, above, turns=(0.28, 0.72), at_bottom=below, within=[within, within]
    )
    read = reader.read(page.rotate(rotation, expand=True), None)
    assert errors(read.blocks[0][0].text, above) <= 0.03
    assert errors(read.blocks[-1][0].text, below) <= 0.1


@pytest.mark.parametrize(("truth", "text"), [(RUSSIAN, COMPANY_RU), (ENGLISH, COMPANY_EN)])
def test_a_stamp_stands_after_the_text_that_it_is_beside(
    reader: Reader, truth: tuple[str, ...], text: str
) -> None:
    page = blank(1300, 1200)
    page.paste(render(truth, 32), (40, 40))
    draw_stamp(page, (1000, 850), 210, text, ink="#2840c0")
    read = reader.read(page, None)
    assert errors(read.text, " ".join((*truth, text))) <= 0.03
    assert errors(read.lines[-1].text, text) <= 0.05


def _pie(draw: ImageDraw.ImageDraw) -> None:
    for start, fill in ((0, "orange"), (130, "green"), (240, "lightblue")):
        draw.pieslice((250, 130, 550, 430), start, start + 130, fill=fill, outline="black")


def _coin(draw: ImageDraw.ImageDraw) -> None:
    draw.ellipse((250, 130, 550, 430), fill="#c0a020", outline="#806010", width=8)
    draw.ellipse((275, 155, 525, 405), outline="#806010", width=3)


def _logo(draw: ImageDraw.ImageDraw) -> None:
    draw.ellipse((250, 130, 550, 430), outline="navy", width=20)
    draw.polygon([(400, 160), (300, 390), (500, 390)], fill="navy")


@pytest.mark.parametrize("picture", [_pie, _coin, _logo])
def test_a_circle_without_text_adds_none(reader: Reader, picture: object) -> None:
    page = blank()
    assert callable(picture)
    picture(ImageDraw.Draw(page))
    page.paste(render(ENGLISH[:1], 28, margin=4), (200, 540))
    read = reader.read(page, None)
    assert [line.text for line in read.lines] == [ENGLISH[0]]


def test_straight_lines_in_a_circle_stay_as_they_are(reader: Reader) -> None:
    page = blank()
    ImageDraw.Draw(page).ellipse((150, 70, 650, 570), outline="red", width=8)
    page.paste(render(("Open today", "Fresh bread", "All day long"), 40, margin=4), (270, 230))
    read = reader.read(page, None)
    assert [line.text for line in read.lines] == ["Open today", "Fresh bread", "All day long"]
