import pytest
from hypothesis import given
from hypothesis import strategies as st
from qwen_vl_utils.vision_process import MAX_RATIO as LIBRARY_RATIO
from qwen_vl_utils.vision_process import smart_resize

from common.failures import ErrorCode, Refusal
from runners.image_sizes import MAX_RATIO, padded, seen_size
from tests.support.models.prompts import page

SIDE = 28


def test_an_image_is_padded_with_white_where_a_side_is_short():
    image = page(40, 5)
    made = padded(image, SIDE)
    assert made.size == (40, SIDE)
    assert made.crop((0, 0, 40, 5)).tobytes() == image.tobytes()
    assert made.crop((0, 5, 40, SIDE)).getcolors() == [(40 * (SIDE - 5), (255, 255, 255))]


def test_an_image_whose_sides_are_long_enough_stays_as_it_is():
    image = page(SIDE, SIDE)
    assert padded(image, SIDE) is image


@pytest.mark.parametrize("size", [(1, SIDE * 201), (6000, 29)])
def test_an_image_that_is_too_thin_is_refused(size):
    with pytest.raises(Refusal, match="too long and thin") as refused:
        padded(page(*size), SIDE)
    assert refused.value.code is ErrorCode.BAD_IMAGE


SIDES = st.integers(1, 6000)


@given(width=SIDES, height=SIDES, side=st.sampled_from([28, 32]), most=st.integers(1, 6000))
def test_a_size_is_fitted_as_qwens_own_code_does_it(width, height, side, most):
    """But a thin strip's side, which may be shrunk to nothing, stays a token long."""
    assert MAX_RATIO == LIBRARY_RATIO
    width, height = max(width, side), max(height, side)
    if max(width, height) > MAX_RATIO * min(width, height):
        return
    least = min(4, most) * side**2
    down, across = smart_resize(height, width, side, least, most * side**2)
    expected = max(side, across), max(side, down)
    assert seen_size(width, height, side, least, most * side**2) == expected
