import numpy as np
from PIL import Image, ImageDraw

from runners.reader.lines.quads import Quad
from runners.reader.pages.seals import beside, without_marks


def quad(left: float, top: float, width: float) -> Quad:
    right, bottom = left + width, top + 20
    return np.array([(left, top), (right, top), (right, bottom), (left, bottom)], np.float32)


def test_a_mark_becomes_pale_and_the_ink_under_it_stays() -> None:
    page = Image.new("RGB", (400, 300), "white")
    draw = ImageDraw.Draw(page)
    draw.ellipse((100, 100, 200, 200), fill=(40, 60, 220))
    draw.rectangle((120, 140, 180, 145), fill="black")
    cleaned = without_marks(page)
    assert cleaned is not None
    assert cleaned.getpixel((150, 120)) > 200  # type: ignore[operator]
    assert cleaned.getpixel((150, 142)) == 0


def test_a_page_without_marks_or_of_coloured_paper_is_left_alone() -> None:
    assert without_marks(Image.new("RGB", (400, 300), "white")) is None
    assert without_marks(Image.new("RGB", (400, 300), "lightgreen")) is None
    assert without_marks(Image.new("RGB", (400, 300), "navy")) is None


def test_lines_that_are_seen_through_the_marks_take_the_place_of_their_parts() -> None:
    parts = [quad(0, 0, 100), quad(160, 0, 40), quad(0, 50, 200), quad(0, 100, 200)]
    through = [quad(0, 0, 200), quad(0, 50, 200)]
    assert [line is parts[3] for line in beside(parts, through)] == [True]
