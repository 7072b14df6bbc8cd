"""Decoded requests for a `Vlm`, and pages to read."""

import random
from typing import Literal

from PIL import Image, ImageDraw

from common.messages import Options
from runners.vlm.interface import DecodedRequest, DecodedTurn, Task

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


Role = Literal["system", "user", "assistant"]
Part = str | Image.Image
PLAIN = Options()


def ocr(
    image: Image.Image, language: str | None = None, options: Options = PLAIN
) -> DecodedRequest:
    """A page to read."""
    return DecodedRequest(
        Task("ocr", language, options), (DecodedTurn("user", (image,)),), MAX_TOKENS
    )


def chat(image: Image.Image, text: str, options: Options = PLAIN) -> DecodedRequest:
    """A question about an image."""
    return talk(("user", image, text), options=options)


def talk(*turns: tuple[Role, *tuple[Part, ...]], options: Options = PLAIN) -> DecodedRequest:
    """A conversation: of each turn the role, then its texts and images."""
    made = tuple(DecodedTurn(role, tuple(parts)) for role, *parts in turns)
    return DecodedRequest(Task("chat", options=options), made, MAX_TOKENS)
