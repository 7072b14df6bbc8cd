import numpy as np
import pytest
from PIL import Image, ImageDraw

from common.imaging.transparency import flatten


def written(*inks: str, mode: str = "RGBA") -> Image.Image:
    """A line of letters in each ink on nothing. What is transparent has the colour of the ink."""
    page = Image.new("RGBA", (200, 40 * len(inks)))
    for number, ink in enumerate(inks):
        line = Image.new("RGBA", (200, 40), ink)
        letters = Image.new("L", line.size)
        ImageDraw.Draw(letters).text((10, 5), "Harbour board", fill=255, font_size=24)
        line.putalpha(letters)
        page.paste(line, (0, 40 * number))
    return page.convert(mode)


def contrasts(page: Image.Image, lines: int) -> list[int]:
    """How many grey levels the ink of each line differs from its background."""
    pixels = np.asarray(page.convert("L")).astype(int).reshape(lines, 40, -1)
    return [int(np.abs(line - line[0, 0]).max()) for line in pixels]


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
@pytest.mark.parametrize(("ink", "background"), [("black", 255), ("white", 0), ("#909090", 255)])
def test_the_background_is_white_unless_the_ink_is(ink, background, mode):
    page = flatten(written(ink, mode=mode))
    assert (page.mode, page.getpixel((0, 0))) == ("RGB", (background,) * 3)
    assert contrasts(page, 1)[0] > 80


def test_white_and_black_ink_are_both_seen():
    assert min(contrasts(flatten(written("white", "black")), 2)) > 100


def test_an_opaque_card_of_a_transparent_page_changes_nothing():
    page = written("black", "black", "black")
    page.paste("white", (150, 85, 190, 115))
    assert flatten(page).getpixel((0, 0)) == (255, 255, 255)


def test_white_ink_of_a_large_page_is_seen():
    page = Image.new("RGBA", (4000, 4000))
    page.paste(written("white"), (50, 50))
    assert flatten(page).getpixel((0, 0)) == (0, 0, 0)


@pytest.mark.parametrize("height", [63, 64, 65, 200])
def test_every_row_lies_on_the_same_background(height: int) -> None:
    page = Image.new("RGBA", (40, height))
    page.paste(written("white"), (0, 0))
    page.paste("white", (0, height - 1, 40, height))
    flat = flatten(page)
    assert flat.getpixel((30, height - 2)) == (0, 0, 0)
    assert flat.getpixel((30, height - 1)) == (255, 255, 255)
    assert flat.size == page.size
