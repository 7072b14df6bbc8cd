"""Limits the pixels of all images of one question together."""

import asyncio
from collections.abc import Sequence

from api.documents.opening import Pages
from common.failures import ErrorCode, Refusal
from common.images import read_size
from settings import Settings


class PixelBudget:
    """Counts the pixels of one question's images: together they may have as many pixels as a single
    image (`max_image_pixels`)."""

    def __init__(self, settings: Settings) -> None:
        self._max_pixels = settings.max_image_pixels
        self._pixels = 0

    def share(self, count: int) -> int:
        """The most pixels of each of `count` pages of a PDF."""
        return max(1, self._max_pixels // count)

    async def images(self, pages: Pages, numbers: Sequence[int]) -> list[bytes]:
        """Pages `numbers`, from 1, as encoded images.

        Each page of a PDF is drawn with at most its share of the budget, so that the pages of
        one file fit in; those of a further file may still exceed it.

        Raises `Refusal`: TOO_LARGE if the budget is exceeded, and what `Pages.image` raises.
        """
        share = self.share(len(numbers))
        images = []
        for number in numbers:
            images.append(await pages.image(number, share))
            width, height = await asyncio.to_thread(read_size, images[-1])
            self._pixels += width * height
            if self._pixels > self._max_pixels:
                raise Refusal(
                    ErrorCode.TOO_LARGE,
                    f"The question's images have {self._pixels} pixels or more together; at most "
                    f"{self._max_pixels} are read: send fewer or smaller ones.",
                )
        return images
