import numpy as np
import pytest
from PIL import Image, ImageDraw

from runners.reader.pages.circles import Circle, Unrolled, circles_of
from tests.support.pages import ENGLISH, draw_stamp, render


@pytest.mark.parametrize(("middle", "radius"), [((300, 250), 200), ((460, 300), 120)])
def test_a_drawn_circle_is_found_where_it_is(middle: tuple[int, int], radius: int) -> None:
    page = Image.new("RGB", (800, 600), "white")
    draw_stamp(page, middle, radius, "HARBOUR TRADING COMPANY LIMITED")
    [circle] = circles_of(page)
    assert circle.middle == pytest.approx(middle, abs=2)
    assert circle.radius == pytest.approx(radius, abs=3)
    assert circles_of(page.convert("L")) == [circle]


def test_a_circle_that_the_page_cuts_is_found() -> None:
    page = Image.new("RGB", (800, 600), "white")
    draw_stamp(page, (660, 300), 200, "HARBOUR TRADING COMPANY LIMITED")
    [circle] = circles_of(page)
    assert circle.middle == pytest.approx((660, 300), abs=3)


def test_letters_and_blank_pages_are_no_circles() -> None:
    for page in (render(ENGLISH), Image.new("L", (1, 1)), Image.new("L", (9, 900))):
        assert circles_of(page) == []


def test_a_large_page_is_not_looked_at() -> None:
    page = Image.new("L", (4000, 2990), 255)
    ImageDraw.Draw(page).ellipse((900, 400, 2900, 2400), outline=0, width=12)
    assert len(circles_of(page)) == 1
    assert circles_of(page.crop((0, 0, 4000, 3010))) == []


def test_a_strip_runs_clockwise_with_the_outer_edge_on_top() -> None:
    page = Image.new("L", (400, 400), 255)
    ImageDraw.Draw(page).rectangle((190, 325, 210, 345), fill=0)  # under the middle
    strip = Unrolled(page, Circle(200, 200, 150), 0.0)
    rows, columns = np.nonzero(np.asarray(strip.image) < 128)
    assert columns.mean() / strip.image.width == pytest.approx(0.25, abs=0.01)
    assert rows.mean() == pytest.approx(1.04 * 150 - 135, abs=2)
    later = Unrolled(page, Circle(200, 200, 150), 0.2)
    columns = np.nonzero(np.asarray(later.image) < 128)[1]
    assert columns.mean() / later.image.width == pytest.approx(0.05, abs=0.01)


def test_places_on_the_strip_and_on_the_page_are_each_others() -> None:
    strip = Unrolled(Image.new("L", (400, 400)), Circle(200, 200, 150), 0.3)
    corners = np.array([(20, 10), (200, 10), (200, 40), (20, 40)], np.float32)
    outline = strip.outline(corners)
    assert strip.places(outline)[[0, 8, 17, 9]] == pytest.approx(corners, abs=0.1)
    assert np.hypot(*(outline[:9] - 200).T) == pytest.approx(1.04 * 150 - 10, abs=0.1)
