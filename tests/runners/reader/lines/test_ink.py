import numpy as np
import pytest

from runners.reader.lines.ink import columns_with_ink, grey_of


@pytest.mark.parametrize(
    ("ink", "paper"),
    [
        ((0, 0, 0), (255, 255, 255)),
        ((255, 255, 255), (0, 0, 90)),
        ((230, 20, 20), (20, 130, 20)),
        ((0, 0, 0), (20, 120, 40)),
    ],
)
def test_ink_is_dark_and_paper_light_whatever_their_colours(
    ink: tuple[int, int, int], paper: tuple[int, int, int]
) -> None:
    line = np.full((48, 200, 3), paper, np.uint8)
    line[10:40, 50:80] = ink
    grey = grey_of(line)
    assert grey[20, 60] < 30
    assert grey[20, 150] > 225
    assert not columns_with_ink(grey)[:45].any()


def test_a_line_of_one_colour_has_no_ink() -> None:
    assert not columns_with_ink(np.full((48, 60), 200, np.uint8)).any()
    assert grey_of(np.full((48, 60, 3), 90, np.uint8)).shape == (48, 60)
