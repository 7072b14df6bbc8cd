"""Lays a picture with transparent parts on a background that lets its ink be seen."""

from PIL import Image, ImageChops

WHITE, BLACK, GREY = 255, 0, 128
_SAMPLE_PIXELS = 4_000_000
"""The background is chosen by a picture of at most so many pixels."""
_STRIP = 64
"""Rows that are converted at a time."""
_EDGE = 16
"""Grey levels between neighbours that make an edge, as letters have."""
_CLEARLY_MORE = 1.2
"""How many times as many edges as on white another background has to show."""


def flatten(image: Image.Image) -> Image.Image:
    """The picture as RGB. White is preferred as its background.

    Black is taken for white ink, and grey for a mixture of white and black ink, if on white clearly
    less of the ink were seen.
    """
    boxes = _strips(image)
    if all(_rgba(image, box).getchannel("A").getextrema()[0] == 255 for box in boxes):
        return image.convert("RGB")
    background = _background(image)
    page = Image.new("RGB", image.size)
    for box in boxes:
        ink = _rgba(image, box)
        strip = Image.new("RGBA", ink.size, (background, background, background, 255))
        strip.alpha_composite(ink)
        page.paste(strip.convert("RGB"), box)
    return page


def _strips(image: Image.Image) -> list[tuple[int, int, int, int]]:
    """Parts of the picture: converted at once, a large one would take several times its memory."""
    return [
        (0, top, image.width, min(image.height, top + _STRIP))
        for top in range(0, image.height, _STRIP)
    ]


def _rgba(image: Image.Image, box: tuple[int, int, int, int]) -> Image.Image:
    return image.crop(box).convert("RGBA")


def _background(image: Image.Image) -> int:
    shrink = (image.width * image.height / _SAMPLE_PIXELS) ** 0.5
    if shrink > 1:
        # No smoothing: it would take the edges away.
        size = (max(1, int(image.width / shrink)), max(1, int(image.height / shrink)))
        image = image.resize(size, Image.Resampling.NEAREST)
    image = image.convert("RGBA")
    ink, alpha = image.convert("RGB").convert("L"), image.getchannel("A")
    edges = {
        level: _edges(Image.composite(ink, Image.new("L", ink.size, level), alpha))
        for level in (WHITE, BLACK, GREY)
    }
    best = max(edges, key=lambda level: edges[level])  # the first of equals
    return best if edges[best] > _CLEARLY_MORE * edges[WHITE] else WHITE


def _edges(grey: Image.Image) -> int:
    """The number of pixels that differ from their neighbour to the left or above."""
    found = 0
    for shift in ((1, 0), (0, 1)):
        steps = ImageChops.difference(grey, ImageChops.offset(grey, *shift))
        found += sum(steps.histogram()[_EDGE:])
    return found
