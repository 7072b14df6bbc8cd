import io

import numpy as np
import pytest
from PIL import Image

from common.images import decode
from tests.support.pages import ENGLISH, encode, render

WHITE = 255


def noise() -> Image.Image:
    return Image.frombytes("RGB", (64, 64), np.random.default_rng(0).bytes(64 * 64 * 3))


@pytest.mark.parametrize("format", ["JPEG", "PNG", "BMP", "TIFF", "GIF"])
def test_the_rows_that_were_not_decoded_are_white(format):
    data = encode(noise(), format, **({"interlace": 0} if format == "GIF" else {}))
    rows = np.asarray(decode(data[: len(data) * 2 // 3]))
    if format == "BMP":  # its rows come from the bottom
        rows = rows[::-1]
    assert rows[:24].std(axis=(1, 2)).min() > 20
    assert rows[-8:].min() == WHITE


def test_the_missing_rows_between_others_are_like_those_above():
    page = render(ENGLISH)
    data = encode(page, "GIF", interlace=1)
    dark = np.asarray(decode(data[: len(data) * 3 // 4]).convert("L")) < 128
    assert not dark.all(axis=1).any()
    assert dark.mean() == pytest.approx((np.asarray(page.convert("L")) < 128).mean(), rel=0.3)


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("lost", [2, 100])
def test_a_jpeg_that_lacks_its_last_bytes_is_read(progressive, lost):
    whole = encode(noise(), "JPEG", progressive=progressive)
    off = np.asarray(decode(whole[:-lost]))[:48].astype(int) - np.asarray(decode(whole))[:48]
    assert np.abs(off).mean() < 8


@pytest.mark.parametrize("mode", ["L", "CMYK"])
def test_the_missing_rows_of_a_jpeg_of_other_colours_are_white(mode):
    data = encode(noise().convert(mode), "JPEG")
    assert np.asarray(decode(data[: len(data) // 2]))[-8:].min() == WHITE


def test_other_readers_of_cut_images_stay_strict():
    cut = encode(noise())[:-4000]
    decode(cut)
    with pytest.raises(OSError, match="truncated"):
        Image.open(io.BytesIO(cut)).load()
