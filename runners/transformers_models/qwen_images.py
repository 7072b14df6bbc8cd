"""Turns images into patches as Qwen2-VL does. Other families do it in the same way."""

from collections.abc import Sequence

import torch
from PIL import Image
from qwen_vl_utils.vision_process import smart_resize
from torch import Tensor
from torchvision.transforms.v2 import InterpolationMode, functional
from transformers import BaseImageProcessor

from runners.image_sizes import padded, padded_size
from runners.vlm.request_images import RequestImage

_LEAST_BOUND = 1280
"""Visual tokens that an image may become however little memory there is."""


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

    def bound(self, tokens: int) -> None:
        """Lets no image become more visual tokens than this, or than it may have in any case."""
        pixels = max(tokens, _LEAST_BOUND) * self.token_size**2
        self._max_pixels = min(self._max_pixels, pixels)
        self._min_pixels = min(self._min_pixels, self._max_pixels)

    def patches(self, images: Sequence[RequestImage], grids: Tensor) -> Tensor:
        """Returns the patches of all images, one a row, [patches, channels * frames * size * size].

        grids: as `grids` returns them. Raises `Refusal` (BAD_IMAGE).
        """
        sizes = (grids[:, 1:] * self.patch_size).tolist()
        return torch.cat(
            [self._patches(image.pixels, size) for image, size in zip(images, sizes, strict=True)]
        )

    def grids(self, images: Sequence[RequestImage], most_tokens: int | None = None) -> Tensor:
        """Returns the grid of each image, [images, 3] int64: patches in time, height and width.

        most_tokens: visual tokens that all images may become together, each an equal share of them.

        Decodes no image whose size is known. Raises `Refusal` (BAD_IMAGE), also for an image that
        is too long and thin.
        """
        share = None if most_tokens is None else most_tokens // len(images)
        sizes = [self.sides(*image.facts.size, share) for image in images]
        return torch.tensor([[1, *(side // self.patch_size for side in sides)] for sides in sizes])

    def token_counts(self, grids: Tensor) -> list[int]:
        """Returns how many visual tokens each image becomes."""
        merged = self._processor.merge_size**2
        counts: list[int] = (grids.prod(-1) // merged).tolist()
        return counts

    def seen_sizes(self, grids: Tensor) -> tuple[tuple[int, int], ...]:
        """Returns width and height in which the model sees each image."""
        return tuple((across, down) for _, down, across in (grids * self.patch_size).tolist())

    def _patches(self, image: Image.Image, sides: list[int]) -> Tensor:
        processor, size = self._processor, self.patch_size
        resized = functional.resize(
            functional.pil_to_tensor(padded(image, self.token_size)),
            sides,
            InterpolationMode.BICUBIC,
            antialias=True,
        )
        # The library would compute with floats from here on, and with each number twice where a
        # still picture is made to look like a film of two frames.
        bytes_of, _, _ = processor.patchify(resized[None], size, processor.merge_size, 1)
        scaled = processor.rescale_and_normalize(
            bytes_of.view(-1, resized.shape[0], size, size),
            processor.do_rescale,
            processor.rescale_factor,
            processor.do_normalize,
            processor.image_mean,
            processor.image_std,
        )
        frames = scaled.to(self._dtype)[:, :, None]
        return frames.expand(-1, -1, processor.temporal_patch_size, -1, -1).flatten(1)

    def sides(self, width: int, height: int, most_tokens: int | None = None) -> list[int]:
        """Returns height and width in which the model sees an image. Raises as `grids` does.

        most_tokens: visual tokens that it may become, if they are fewer than those of any image.
        """
        side = self.token_size
        width, height = padded_size(width, height, side)
        most = self._max_pixels
        if most_tokens is not None:
            most = min(most, max(1, most_tokens) * side**2)
        sides = smart_resize(height, width, side, min(self._min_pixels, most), most)
        return [max(side, length) for length in sides]  # a thin strip's side is shrunk to nothing
