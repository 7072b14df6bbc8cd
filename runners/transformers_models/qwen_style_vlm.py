"""A model of the transformers library that takes conversations, and images as Qwen2-VL does."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from transformers import PreTrainedModel, ProcessorMixin

from common.failures import ErrorCode, Refusal
from runners.image_sizes import IMAGES_SHARE
from runners.transformers_models.chat_template import ChatTemplate
from runners.transformers_models.patch_projection import project_patches_by_products
from runners.transformers_models.qwen_images import QwenImages
from runners.transformers_models.transformers_vlm import TransformersVlm
from runners.vlm.interface import (
    Encoded,
    Features,
    LazyTensors,
    ModelRequest,
    ModelTurn,
    Task,
)
from runners.vlm.request_images import RequestImage, key_of


class QwenStyleVlm(TransformersVlm):
    """Encodes conversations with a chat template.

    To have a page read, it asks the model with the image and, after it, a fixed instruction.
    """

    patch_projection: str
    """The name of the convolution that projects patches, in the model."""

    def __init__(
        self,
        model: PreTrainedModel,
        processor: ProcessorMixin,
        max_pixels: int,
        reuse_bytes: int,
    ) -> None:
        """max_pixels: larger images are shrunk to this before the model reads them."""
        self.prepare(model)
        super().__init__(model, processor.tokenizer, reuse_bytes)
        self.images = QwenImages(processor.image_processor, max_pixels, self.dtype)
        self._template = ChatTemplate(processor)
        self._image_token = processor.image_token_id
        self._context = model.config.get_text_config().max_position_embeddings

    def prepare(self, model: PreTrainedModel) -> None:
        """Replace parts of the model by faster ones, before it is taken apart."""
        project_patches_by_products(model, self.patch_projection)

    @abstractmethod
    def instruction(self, task: Task) -> str:
        """The text after an image that is to be read."""

    @abstractmethod
    def positions(self, tokens: Tensor, grids: Tensor | None) -> Tensor:
        """Position indices of a prompt, [axes, length].

        tokens: [length]. grids: [images, 3], the patches of each image in time, height and
        width; None without an image.
        """

    def vision_arguments(self, grids: Tensor) -> dict[str, Tensor]:
        """Returns further arguments for the vision tower. grids: as for `positions`, on the CPU."""
        return {}

    def image_features(self, pixels: Sequence[Mapping[str, Tensor]]) -> Features:
        # The grids stay on the CPU: their numbers say how the device's tensors are to be split, and
        # the CPU would have to wait for the device to get them.
        grids = torch.cat([one["image_grid_thw"] for one in pixels])
        patches = torch.cat([one["pixel_values"] for one in pixels])
        seen = self.model.get_image_features(
            pixel_values=self.to_device(patches),
            image_grid_thw=grids,
            return_dict=True,
            **self.vision_arguments(grids),
        )
        added = getattr(seen, "deepstack_features", None) or []
        return Features(torch.cat(seen.pooler_output), [torch.cat(layer) for layer in added])

    @property
    def most_visual_tokens(self) -> int:
        """Visual tokens that all images of a conversation may become together."""
        return int(self._context * IMAGES_SHARE)

    def bound_images(self, tokens: int) -> None:
        self.images.bound(tokens)

    def encode(self, request: ModelRequest) -> Encoded:
        turns, images = request.turns, request.images
        if request.task.kind == "ocr":
            words = request.task.options.prompt or self.instruction(request.task)
            turns = (ModelTurn("user", (*images, words)),)
        pixels: Mapping[str, Tensor] = {}
        grids, counts, image_key = None, [], key_of(images)
        if images:
            grids = self.images.grids(images, self.most_visual_tokens)
            counts = self.images.token_counts(grids)
        if request.toolbox and not self._template.takes_tools(turns, request.toolbox):
            raise Refusal(
                ErrorCode.BAD_PARAMETER,
                "This model's chat template describes no functions: leave out 'tools', or ask for "
                "the answer's form with 'response_format'.",
            )
        tokens = self._template.tokens(turns, counts, request.toolbox)
        room = self._context - len(tokens)
        if room < 1:
            raise Refusal(
                ErrorCode.BAD_PARAMETER,
                f"The model takes at most {self._context} tokens together with the answer's; the "
                f"conversation has {len(tokens)}: send less.",
            )
        if grids is not None:
            pixels = self._pixels(images, grids, image_key)
        prompt = torch.tensor(tokens)
        visual = (prompt == self._image_token).nonzero()[:, 0]
        return Encoded(
            tokens=prompt,
            positions=self.positions(prompt, grids),
            pixels=pixels,
            image_key=image_key,
            prefix_length=int(visual[-1]) + 1 if images else 0,
            visual=visual,
            image_size=images[0].facts.size if images else (0, 0),
            seen_sizes=() if grids is None else self.images.seen_sizes(grids),
            room=room,
        )

    def _pixels(
        self, images: Sequence[RequestImage], grids: Tensor, image_key: bytes
    ) -> Mapping[str, Tensor]:
        def make(images: Sequence[RequestImage]) -> dict[str, Tensor]:
            return {"pixel_values": self.images.patches(images, grids), "image_grid_thw": grids}

        if not self.has_features(image_key):
            return make(images)
        # If the features are given up meanwhile, the patches are made when the tower needs them.
        undecoded = [image.undecoded for image in images]
        return LazyTensors(lambda: make(undecoded))
