import numpy as np
import pytest
from PIL import Image, ImageDraw

from runners.reader.deskew import deskew, skew_of
from tests.support.pages import ENGLISH, render


@pytest.mark.parametrize("degrees", [-7.0, -1.5, 1.5, 4.0])
def test_the_skew_is_what_the_page_was_turned_by(degrees: float) -> None:
    page = render(ENGLISH, rotation=-degrees).convert("L")
    assert skew_of(page) == pytest.approx(degrees, abs=0.3)


def test_a_straight_page_is_left_as_it_is() -> None:
    page = render(ENGLISH).convert("L")
    assert skew_of(page) == 0
    assert deskew(page, 0, 1).image is page


@pytest.mark.parametrize("size", [(1, 1), (1, 5000), (5000, 1), (300, 300)])
def test_an_image_without_ink_has_no_skew(size: tuple[int, int]) -> None:
    assert skew_of(Image.new("L", size, 255)) == 0


@pytest.mark.parametrize("scale", [0.4, 1.0, 2.5])
@pytest.mark.parametrize("skew", [0.0, -5.0, 8.0])
def test_a_box_of_the_frame_is_found_again_on_the_page(skew: float, scale: float) -> None:
    page = Image.new("L", (600, 400), 255)
    ImageDraw.Draw(page).rectangle((430, 290, 449, 309), fill=0)
    frame = deskew(page, skew, scale)
    ys, xs = np.nonzero(np.asarray(frame.image) < 128)
    box = frame.box_on_page((int(xs.min()), int(ys.min()), int(xs.max()) + 1, int(ys.max()) + 1))
    # A turned box of a turned box is larger than the square that both enclose.
    assert box == pytest.approx((430, 290, 450, 310), abs=6)


def test_a_box_is_clipped_to_the_page() -> None:
    frame = deskew(Image.new("L", (600, 400), 255), 5, 1)
    assert frame.box_on_page((0, 0, *frame.image.size)) == (0, 0, 600, 400)
