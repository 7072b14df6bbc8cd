import numpy as np
import pytest

from common.messages import Box
from runners.reader.lines.words import Character, LineWord
from runners.reader.pages.turning import Turning, corners_of

CORNERS = np.array([(10, 20), (60, 20), (60, 30), (10, 30)], np.float32)


@pytest.mark.parametrize(
    ("direction", "degrees", "box"),
    [
        (0, 0, (10, 20, 60, 30)),
        (90, 270, (20, 40, 30, 90)),
        (180, 180, (40, 170, 90, 180)),
        (-90, 90, (170, 10, 180, 60)),
    ],
)
def test_boxes_lie_on_the_upright_page(direction: float, degrees: int, box: Box) -> None:
    turning = Turning((100, 200), direction)
    assert turning.rotation.degrees == degrees
    assert turning.size == ((100, 200) if degrees % 180 == 0 else (200, 100))
    assert turning.box_of(CORNERS) == box


def test_the_skew_is_told_and_not_undone() -> None:
    turning = Turning((100, 200), 92.34)
    assert (turning.rotation.degrees, turning.rotation.skew) == (270, 2.3)
    assert Turning((100, 200), 0.01).rotation.skew == 0


def test_a_word_lies_within_its_line() -> None:
    word = LineWord((Character("a", 1.0, 1.0, 1.5), Character("b", 1.0, 1.5, 2.0)))
    assert corners_of(CORNERS, word).tolist() == [[20, 20], [30, 20], [30, 30], [20, 30]]
