"""Turns images into what an upstream is sent, in the size in which the model sees them."""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image

from common.catalog import Entry
from runners.image_sizes import IMAGES_SHARE, padded, seen_size
from runners.legibility import shrink_warning
from runners.vlm.request_images import RequestImage

_COMPRESSION = 1
"""zlib's fastest: the pixels are lossless, and the network is near."""


@dataclass(frozen=True)
class Picture:
    """An image as it is sent."""

    url: str
    """A data URL."""
    size: tuple[int, int]
    """Width, height of the upright image."""
    padded_size: tuple[int, int]
    """Width, height with the white that a thin image needs at its end."""
    seen: tuple[int, int]
    """Width, height in which the model sees it."""
    visual_tokens: int
    warnings: tuple[str, ...]

    @property
    def scale(self) -> tuple[float, float]:
        """Pixels of the upright image per pixel that the model sees, across and down."""
        (width, height), (across, down) = self.padded_size, self.seen
        return width / across, height / down


def make_pictures(
    images: Sequence[RequestImage], entry: Entry, max_pixels: int, context: int | None
) -> list[Picture]:
    """The images of one request, of at most `max_pixels` each. Blocks.

    context: most tokens of a prompt with its answer, of which the images may take a share.

    Raises `Refusal` (BAD_IMAGE).
    """
    side = entry.visual_token_side
    most = max_pixels
    if context is not None and images:
        share = int(context * IMAGES_SHARE) // len(images)
        most = min(most, max(1, share) * side**2)
    return [_picture(image, entry, most) for image in images]


def _picture(image: RequestImage, entry: Entry, most_pixels: int) -> Picture:
    side = entry.visual_token_side
    page = padded(image.pixels, side)
    least = min(entry.fewest_visual_tokens * side**2, most_pixels)
    padded_size = page.size
    seen = seen_size(*padded_size, side, least, most_pixels)
    if seen != padded_size:
        page = page.resize(seen, Image.Resampling.BICUBIC)
    warning = shrink_warning(image.facts.size, seen, image.letter_height)
    return Picture(
        url=_data_url(page),
        size=image.facts.size,
        padded_size=padded_size,
        seen=seen,
        visual_tokens=seen[0] * seen[1] // side**2,
        warnings=(*image.facts.warnings, *([warning] if warning else [])),
    )


def _data_url(image: Image.Image) -> str:
    file = io.BytesIO()
    image.save(file, "PNG", compress_level=_COMPRESSION)
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
