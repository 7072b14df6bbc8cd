import numpy as np
import pytest
from PIL import Image

from runners.reader.lighting import even_out
from tests.support.pages import ENGLISH, render

PAGE = render(ENGLISH).convert("L")


def test_an_evenly_lit_page_stays_as_it_is() -> None:
    assert even_out(PAGE) is PAGE


def test_light_ink_on_dark_paper_is_inverted() -> None:
    light = render(ENGLISH, ink="white", paper="black").convert("L")
    assert np.asarray(even_out(light)).mean() > 200


def test_paper_in_a_shadow_becomes_white_and_ink_stays_dark() -> None:
    shadow = np.linspace(0.4, 1, PAGE.width)[None, :]
    dim = Image.fromarray((np.asarray(PAGE) * shadow).astype(np.uint8))
    evened = np.asarray(even_out(dim))
    assert np.percentile(np.asarray(dim), 20) < 140
    assert np.percentile(evened, 20) > 220
    assert evened.min() < 50


@pytest.mark.parametrize("size", [(1, 1), (1, 100), (100, 1)])
def test_the_smallest_images_are_no_obstacle(size: tuple[int, int]) -> None:
    assert even_out(Image.new("L", size, "white")).size == size
