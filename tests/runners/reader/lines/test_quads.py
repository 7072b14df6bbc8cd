import numpy as np
import pytest
from PIL import Image, ImageDraw

from runners.reader.lines.quads import cut_out, direction_of, read_towards, size_of, wider

QUAD = np.array([(10, 10), (110, 10), (110, 30), (10, 30)], np.float32)


@pytest.mark.parametrize("direction", [0, 90, 180, -90])
def test_a_quadrilateral_can_be_read_in_four_directions(direction: float) -> None:
    turned = read_towards(QUAD, direction)
    assert direction_of(turned) % 360 == direction % 360
    assert size_of(turned) == ((100, 20) if direction % 180 == 0 else (20, 100))


def test_it_is_made_longer_at_both_ends() -> None:
    assert wider(QUAD, 0.5)[:, 0].tolist() == [0, 120, 120, 0]
    assert wider(QUAD, 0.5)[:, 1].tolist() == QUAD[:, 1].tolist()


def test_what_it_encloses_is_straightened() -> None:
    page = Image.new("RGB", (200, 200), "white")
    leaning = np.array([(20, 40), (120, 90), (110, 110), (10, 60)], np.float32)
    ImageDraw.Draw(page).polygon([tuple(corner) for corner in leaning], fill="black")
    line = cut_out(page, leaning, 48)
    assert line.shape[0] == 48
    assert line.shape[1] == pytest.approx(48 * 5, abs=2)
    assert line[5:-5, 5:-5].max() < 60
