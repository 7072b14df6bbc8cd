"""Decoded requests for a `Vlm`, and pages to read."""

import io
import random
from typing import Literal

from PIL import Image, ImageDraw

from common.messages import Options
from runners.vlm.interface import ModelRequest, ModelTurn, Task
from runners.vlm.request_images import ImageMemory, RequestImage

MAX_TOKENS = 2048


def page(width: int, height: int, seed: int = 0) -> Image.Image:
    """Coloured rectangles: what a tiny random model tells apart."""
    dice = random.Random(seed)
    image = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(image)
    for _ in range(20):
        colour = tuple(dice.randrange(256) for _ in range(3))
        corner = (dice.randrange(width), dice.randrange(height))
        draw.rectangle([corner, (width, height)], fill=colour)
    return image


def request_image(image: Image.Image) -> RequestImage:
    """The image as a client sends it."""
    file = io.BytesIO()
    image.save(file, "PNG", compress_level=0)
    return ImageMemory().image(file.getvalue())


Role = Literal["system", "user", "assistant"]
Part = str | Image.Image
PLAIN = Options()


def ocr(image: Image.Image, language: str | None = None, options: Options = PLAIN) -> ModelRequest:
    """A page to read."""
    turn = ModelTurn("user", (request_image(image),))
    return ModelRequest(Task("ocr", language, options), (turn,), MAX_TOKENS)


def chat(image: Image.Image, text: str, options: Options = PLAIN) -> ModelRequest:
    """A question about an image."""
    return talk(("user", image, text), options=options)


def talk(*turns: tuple[Role, *tuple[Part, ...]], options: Options = PLAIN) -> ModelRequest:
    """A conversation: of each turn the role, then its texts and images."""
    made = tuple(
        ModelTurn(
            role, tuple(part if isinstance(part, str) else request_image(part) for part in parts)
        )
        for role, *parts in turns
    )
    return ModelRequest(Task("chat", options=options), made, MAX_TOKENS)
