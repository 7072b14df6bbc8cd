import numpy as np
import pytest
from PIL import Image, ImageDraw

from runners.reader.pages.rules import without_rules

LINE = np.array([(20, 40), (180, 40), (180, 64), (20, 64)], np.float32)


def page(ink: str, paper: str, *box: int) -> Image.Image:
    """A page with a filled box on it."""
    drawn = Image.new("RGB", (240, 200), paper)
    ImageDraw.Draw(drawn).rectangle(box, fill=ink)
    return drawn


@pytest.mark.parametrize(("ink", "paper"), [("black", "white"), ("white", "#203050")])
def test_a_rule_becomes_what_is_beside_it(ink: str, paper: str) -> None:
    ruled = page(ink, paper, 100, 10, 101, 190)
    assert without_rules(ruled, [LINE]) == Image.new("RGB", ruled.size, paper)
    assert without_rules(ruled.convert("L"), [LINE]).getextrema() == (
        Image.new("RGB", ruled.size, paper).convert("L").getextrema()
    )


def test_a_rule_that_crosses_others_is_taken_away_between_them() -> None:
    ruled = page("black", "white", 100, 10, 101, 190)
    for top in range(10, 200, 30):
        ImageDraw.Draw(ruled).line((10, top, 230, top), fill="black", width=2)
    read = np.asarray(without_rules(ruled, [LINE]).convert("L"))
    assert read[20, 95:107].min() == 255
    assert read[10, 50] == 0


@pytest.mark.parametrize("box", [(100, 40, 102, 64), (100, 10, 140, 190), (20, 100, 220, 101)])
def test_letters_pictures_and_rules_across_stay(box: tuple[int, ...]) -> None:
    drawn = page("black", "white", *box)
    assert without_rules(drawn, [LINE]) == drawn


def test_a_long_rule_is_taken_away_from_a_copy() -> None:
    ruled = Image.new("RGB", (240, 700), "white")
    ImageDraw.Draw(ruled).rectangle((100, 10, 101, 690), fill="black")
    before = ruled.copy()
    assert without_rules(ruled, [LINE]) == Image.new("RGB", ruled.size, "white")
    assert ruled == before
