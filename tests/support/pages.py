"""Pages that the tests render themselves, so that their truth is known to the letter."""

import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

_FONTS = Path(matplotlib.get_data_path(), "fonts", "ttf")

ENGLISH = (
    "Minutes of the harbour board",
    "The meeting was opened at nine o'clock by the chair.",
    "Repairs to the northern pier will cost 14,250 pounds.",
    "Two fishing boats were moved to the inner basin.",
    "The next meeting is on 12 March 2024 at the town hall.",
)
RUSSIAN = (
    "Протокол собрания жильцов",
    "Собрание открыто в девять часов утра.",
    "Ремонт крыши обойдётся в 48 300 рублей.",
    "Решили посадить у подъезда три яблони и сирень.",
    "Следующее собрание назначено на 12 марта 2024 года.",
)


def render(
    lines: Sequence[str],
    font_px: int = 24,
    *,
    font: str = "DejaVuSans",
    rotation: float = 0.0,
    noise: float = 0.0,
    ink: str = "black",
    paper: str = "white",
    margin: int = 40,
    seed: int = 0,
) -> Image.Image:
    """The lines under one another, an empty string being a gap, as an RGB image.

    font: name of a DejaVu face that matplotlib ships, "DejaVuSerif-Bold" say. rotation: degrees
    counter-clockwise, the page growing as needed. noise: standard deviation of the grey values
    added to every pixel, 0 to 255.
    """
    face = ImageFont.truetype(_FONTS / f"{font}.ttf", font_px)
    step = round(font_px * 1.5)
    width = max([round(face.getlength(line)) for line in lines], default=0)
    page = Image.new("RGB", (width + 2 * margin, step * len(lines) + 2 * margin), paper)
    draw = ImageDraw.Draw(page)
    for number, line in enumerate(lines):
        draw.text((margin, margin + number * step), line, font=face, fill=ink)
    if rotation:
        page = page.rotate(rotation, Image.Resampling.BICUBIC, expand=True, fillcolor=paper)
    if noise:
        pixels = np.asarray(page, np.float32)
        grain = np.random.default_rng(seed).normal(0, noise, pixels.shape[:2])
        page = Image.fromarray(np.clip(pixels + grain[..., None], 0, 255).astype(np.uint8))
    return page


def draw_table(
    rows: Sequence[Sequence[str]],
    lefts: Sequence[int],
    font_px: int = 24,
    *,
    pitch: float = 1.8,
    rules: bool = False,
) -> Image.Image:
    """The cells of the rows, each column beginning at its place, as an RGB image.

    pitch: height of a row, in heights of the font.
    """
    face = ImageFont.truetype(_FONTS / "DejaVuSans.ttf", font_px)
    step = round(font_px * pitch)
    width = max(round(face.getlength(row[-1])) for row in rows)
    page = Image.new("RGB", (lefts[-1] + width + 40, step * len(rows) + 80), "white")
    draw = ImageDraw.Draw(page)
    for number, row in enumerate(rows):
        top = 40 + number * step
        for left, cell in zip(lefts, row, strict=True):
            draw.text((left, top), cell, font=face, fill="black")
        if rules:
            draw.line((20, top - 8, page.width - 20, top - 8), fill="black")
    return page


def draw_stamp(
    page: Image.Image,
    middle: tuple[int, int],
    radius: int,
    text: str,
    *,
    turns: tuple[float, float] = (0.04, 0.96),
    at_bottom: str = "",
    within: Sequence[str] = (),
    ink: str = "black",
) -> None:
    """Draw a round stamp onto an RGB page.

    text: runs clockwise, from the first to the second of `turns`, counted from the bottom.
    at_bottom: runs from left to right along the lower half, its letters upright there.
    within: the lines in the middle.
    """
    draw = ImageDraw.Draw(page)
    px = radius // 8
    x, y = middle
    for share in (1.0, 0.6):
        reach = radius * share
        draw.ellipse((x - reach, y - reach, x + reach, y + reach), outline=ink, width=3)
    _draw_along(page, middle, 0.73 * radius, px, text, turns, ink)
    if at_bottom:
        _draw_along(page, middle, -0.81 * radius, px, at_bottom, (0.15, -0.15), ink)
    face = ImageFont.truetype(_FONTS / "DejaVuSans.ttf", px)
    for number, line in enumerate(within):
        down = (number - (len(within) - 1) / 2) * 1.5 * px
        draw.text((x, y + down), line, font=face, fill=ink, anchor="mm")


def _draw_along(
    page: Image.Image,
    middle: tuple[int, int],
    radius: float,
    px: int,
    text: str,
    turns: tuple[float, float],
    ink: str,
) -> None:
    """Draw letters along a circle; where the radius is negative, their tops are inwards."""
    face = ImageFont.truetype(_FONTS / "DejaVuSans.ttf", px)
    passed = 0.0
    for letter in text:
        width = face.getlength(letter)
        at = (passed + width / 2) / face.getlength(text)
        passed += width
        turn = math.tau * (turns[0] + (turns[1] - turns[0]) * at)
        drawn = Image.new("L", (4 * px, 4 * px))
        ImageDraw.Draw(drawn).text((2 * px, 2 * px), letter, font=face, fill=255, anchor="ms")
        lean = 180 - math.degrees(turn) if radius > 0 else -math.degrees(turn)
        drawn = drawn.rotate(lean, Image.Resampling.BICUBIC)
        left = middle[0] - abs(radius) * math.sin(turn) - 2 * px
        top = middle[1] + abs(radius) * math.cos(turn) - 2 * px
        page.paste(Image.new("RGB", drawn.size, ink), (round(left), round(top)), drawn)


def encode(image: Image.Image, format: str = "PNG", **options: Any) -> bytes:
    """The file's bytes. format, options: as Pillow names them, "JPEG" say."""
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def size_of(file: bytes) -> tuple[int, int]:
    with Image.open(io.BytesIO(file)) as image:
        return image.size


LONG_PAGE = encode(render(ENGLISH * 80))
"""More than four seconds of reading, on a fast machine too."""
