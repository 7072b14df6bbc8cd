"""Turns images into patches as Qwen2-VL does. Other families do it in the same way."""

from collections.abc import Sequence

import torch
from PIL import Image
from qwen_vl_utils.vision_process import MAX_RATIO, smart_resize
from torch import Tensor
from torchvision.transforms.v2 import InterpolationMode, functional
from transformers import BaseImageProcessor

from common.failures import ErrorCode, Refusal
from runners.vlm.interface import digest


class QwenImages:
    """Resizes images and cuts them into patches. For any thread."""

    def __init__(self, processor: BaseImageProcessor, max_pixels: int, dtype: torch.dtype) -> None:
        """max_pixels: larger images are shrunk to this. dtype: of the patches."""
        self.patch_size: int = processor.patch_size
        """Side of a patch, pixels."""
        self.token_size: int = processor.patch_size * processor.merge_size
        """Side of the square of patches that becomes one visual token, pixels."""
        self._processor = processor
        self._max_pixels = max_pixels
        self._min_pixels = min(processor.size["shortest_edge"], max_pixels)
        self._dtype = dtype

    def patches(self, images: Sequence[Image.Image]) -> tuple[Tensor, Tensor, bytes]:
        """Returns the patches of all images, one a row, the grid of each image, and their digest.

        images: at least one, RGB. Grids: [images, 3] int64, patches in time, height and width.
        Raises `Refusal` (BAD_IMAGE) for an image that is too long and thin.
        """
        resized = [self._resized(image) for image in images]
        made = self._processor(images=resized, do_resize=False, return_tensors="pt")
        grids = made["image_grid_thw"]
        # The patches have the same numbers, but eight times as many bytes.
        return made["pixel_values"].to(self._dtype), grids, digest(grids, *resized)

    def token_counts(self, grids: Tensor) -> list[int]:
        """Returns how many visual tokens each image becomes."""
        merged = self._processor.merge_size**2
        counts: list[int] = (grids.prod(-1) // merged).tolist()
        return counts

    def _resized(self, image: Image.Image) -> Tensor:
        """Returns [3, height, width] uint8, in the size in which the model sees the image."""
        side = self.token_size
        image = padded(image, side)
        sides = smart_resize(image.height, image.width, side, self._min_pixels, self._max_pixels)
        size = [max(side, length) for length in sides]  # a thin strip's side is shrunk to nothing
        return functional.resize(
            functional.pil_to_tensor(image), size, InterpolationMode.BICUBIC, antialias=True
        )


def padded(image: Image.Image, min_side: int) -> Image.Image:
    """Adds white to an image, so that each side is at least `min_side` pixels long.

    Without that, the short side of a thin strip would be stretched, or rounded to nothing. Raises
    `Refusal` (BAD_IMAGE) if one side is still more than 200 times as long as the other, which the
    models do not take.
    """
    width, height = (max(side, min_side) for side in image.size)
    if max(width, height) > MAX_RATIO * min(width, height):
        raise Refusal(
            ErrorCode.BAD_IMAGE,
            f"The image is too long and thin ({image.width} x {image.height} pixels): "
            f"one side may be at most {MAX_RATIO} times the other.",
        )
    if (width, height) == image.size:
        return image
    page = Image.new("RGB", (width, height), "white")
    page.paste(image)
    return page
