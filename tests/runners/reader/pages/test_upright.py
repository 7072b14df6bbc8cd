import math

import numpy as np
import pytest

from runners.reader.lines.quads import Quad
from runners.reader.pages.upright import (
    by_orientation,
    likely_direction,
    reading_direction,
    skew_of,
)


def line(angle: float, at: float = 0.0, length: float = 300, height: float = 20) -> Quad:
    """A line that runs at an angle, degrees clockwise; `at` pixels below the first."""
    cos, sin = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    corners = np.array([(0, at), (length, at), (length, at + height), (0, at + height)])
    return (corners @ np.array([[cos, sin], [-sin, cos]])).astype(np.float32)


def lines(angle: float, number: int = 6) -> list[Quad]:
    return [line(angle, 40 * n) for n in range(number)]


@pytest.mark.parametrize("angle", [0, 1.5, -8, 30, -44, 60, 90])
def test_the_direction_is_that_of_most_text(angle: float) -> None:
    found = likely_direction([*lines(angle), line(angle + 90, length=60)])
    assert (found - angle + 90) % 180 - 90 == pytest.approx(0, abs=0.1)


def test_outlines_of_short_words_do_not_make_a_skew() -> None:
    assert likely_direction([line(3, 40 * n, length=80) for n in range(5)]) == 0
    assert likely_direction([]) == 0


def test_a_skew_is_what_is_left_of_quarter_turns() -> None:
    assert [skew_of(a) for a in (3, 87, -92, 180)] == [3, -3, -2, 0]


def test_a_page_that_reads_well_is_not_turned() -> None:
    tried: list[float] = []

    def how_well(direction: float) -> float:
        tried.append(direction)
        return 0.8

    assert reading_direction(lines(0), how_well) == pytest.approx(0, abs=0.1)
    assert len(tried) == 1


@pytest.mark.parametrize("turned", [0, 90, 180, -90])
def test_a_page_is_read_in_the_direction_in_which_it_reads_well(turned: float) -> None:
    def how_well(direction: float) -> float:
        return 0.95 if abs((direction - turned + 180) % 360 - 180) < 45 else 0.3

    found = reading_direction(lines(turned), how_well)
    assert (found - turned + 180) % 360 - 180 == pytest.approx(0, abs=0.1)


@pytest.mark.parametrize("angle", [0, 90])
def test_a_page_that_reads_badly_every_way_stays_as_it_is(angle: float) -> None:
    assert reading_direction(lines(angle), lambda _: 0.5) == pytest.approx(0, abs=0.1)


def test_lines_across_the_others_are_read_apart() -> None:
    page = [*lines(0), *(line(90, 40 * n, length=200) for n in range(3))]
    assert by_orientation(page) == [[0, 1, 2, 3, 4, 5], [6, 7, 8]]
    assert by_orientation(page[:7]) == [list(range(7))]
    assert by_orientation([]) == [[]]
