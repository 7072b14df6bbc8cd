import pytest
from PIL import Image, ImageDraw, ImageOps

from runners.legibility import letter_height, shrink_warning
from tests.support.models.prompts import page
from tests.support.pages import ENGLISH, RUSSIAN, render


def text_page(size: int, ink: str = "black", paper: str = "white") -> Image.Image:
    """A page of text in letters of `size` pixels an em."""
    return render((*ENGLISH, *RUSSIAN, *ENGLISH, *RUSSIAN), size, ink=ink, paper=paper)


@pytest.mark.parametrize("size", [14, 20, 40, 80])
def test_letters_are_about_half_an_em_high(size):
    assert 0.45 * size <= letter_height(text_page(size)) <= 0.8 * size


def test_a_very_large_page_is_measured_in_parts():
    one = text_page(60)
    large = Image.new("RGB", (one.width, 5 * one.height), "white")
    for copy in range(5):
        large.paste(one, (0, one.height * copy))
    assert large.width * large.height > 12_000_000
    assert letter_height(large) == pytest.approx(letter_height(one), abs=3)


def test_light_letters_on_a_dark_page_are_as_high():
    dark = letter_height(text_page(30, "white", "navy"))
    assert dark == pytest.approx(letter_height(text_page(30)), abs=2)


@pytest.mark.parametrize(
    "image",
    [
        Image.new("RGB", (500, 700), "white"),
        page(900, 1200),
        Image.effect_noise((800, 800), 80).convert("RGB"),
        ImageOps.invert(Image.effect_noise((800, 800), 20).convert("RGB")),
        Image.linear_gradient("L").resize((600, 600)).convert("RGB"),
    ],
    ids=["empty", "shapes", "noise", "light noise", "gradient"],
)
def test_a_page_without_text_has_no_letters(image):
    assert letter_height(image) == 0


def test_a_rule_and_a_picture_on_a_page_do_not_change_its_letters():
    plain = text_page(30)
    drawn = plain.copy()
    ImageDraw.Draw(drawn).rectangle((0, 10, plain.width, 20), "black")
    drawn.paste(page(200, 100), (plain.width - 200, plain.height - 100))
    assert letter_height(drawn) == pytest.approx(letter_height(plain), abs=2)


def test_a_page_that_is_shrunk_too_far_is_named_with_the_sizes():
    warning = shrink_warning((2000, 3000), (1000, 1500), lambda: 12.0)
    assert warning is not None
    assert "2000 x 3000 pixels as 1000 x 1500" in warning
    assert "about 6 pixels high" in warning
    assert "send parts of the page" in warning


@pytest.mark.parametrize("letters", [16.0, 40.0, 0.0])
def test_letters_that_stay_large_enough_and_none_need_no_warning(letters):
    assert shrink_warning((2000, 3000), (1000, 1500), lambda: letters) is None


@pytest.mark.parametrize("seen", [(2000, 3000), (2016, 3024)])
def test_a_page_that_is_not_shrunk_is_not_measured(seen):
    assert shrink_warning((2000, 3000), seen, lambda: pytest.fail("measured")) is None
