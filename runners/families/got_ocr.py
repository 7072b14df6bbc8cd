"""GOT-OCR 2.0 (Wei et al., 2024) reads a page, a box of it, or what a coloured frame encloses.

It follows a few fixed prompts, which the library's processor writes, and answers no questions.
"""

from collections.abc import Mapping, Sequence

import langcodes
import torch
from PIL import Image
from torch import Tensor, nn
from transformers import (
    GotOcr2ForConditionalGeneration,
    GotOcr2Processor,
    PreTrainedModel,
)

from common.catalog import Entry
from common.failures import ErrorCode, Refusal
from common.messages import Answer, FinishReason, Options
from runners.checkpoints.loading import load_checkpoint
from runners.transformers_models.transformers_vlm import TransformersVlm
from runners.vlm.interface import Encoded, Features, ModelRequest, Task, digest
from settings import Settings

_LANGUAGES = {"en", "zh"}
"""Languages that the model was trained on."""
_LARGE_PAGE = 4
"""A page of more than this many times a tile's area is read in tiles. In a single tile it would
keep less than half of its resolution in each direction."""


def load(entry: Entry, settings: Settings) -> "GotOcr":
    """Loads the weights of an entry; blocks. Raises `Refusal` as `load_checkpoint` does."""
    model, processor = load_checkpoint(
        entry, settings, {"got_ocr2": (GotOcr2ForConditionalGeneration, GotOcr2Processor)}
    )
    return GotOcr(model, processor, settings.reuse_bytes)


class GotOcr(TransformersVlm):
    """GOT-OCR 2.0. It turns an image into 256 visual tokens; a large page, read in tiles, into up
    to 13 times as many."""

    def __init__(
        self, model: PreTrainedModel, processor: GotOcr2Processor, reuse_bytes: int
    ) -> None:
        super().__init__(model, processor.tokenizer, reuse_bytes)
        self._processor = processor
        # A turn ends with this token, but the generation config names only the end of the text.
        end_of_turn = self.tokenizer.convert_tokens_to_ids(processor.message_end_token)
        self.stop_tokens |= {end_of_turn}

    def encode(self, request: ModelRequest) -> Encoded:
        image = request.images[0].pixels
        options = request.task.options if request.task.kind == "ocr" else Options()
        inputs = self._processor(
            image,
            box=_checked_box(options, image),
            color=options.color,
            format=options.formatted,
            crop_to_patches=self._in_tiles(options, image),
            return_tensors="pt",
        )
        tokens, pixels = inputs["input_ids"][0], inputs["pixel_values"].to(self.dtype)
        visual = (tokens == self._processor.image_token_id).nonzero()[:, 0]
        return Encoded(
            tokens=tokens,
            positions=torch.arange(len(tokens))[None],
            pixels={"pixel_values": pixels},
            image_key=digest(pixels),
            prefix_length=int(visual[-1]) + 1,
            visual=visual,
            image_size=image.size,
        )

    @property
    def tower_blocks(self) -> nn.ModuleList:
        return self.model.model.vision_tower.layers

    def image_features(self, pixels: Sequence[Mapping[str, Tensor]]) -> Features:
        # One tile at a time, as each needs 4096 x 4096 attention scores per head.
        tiles = self.to_device(torch.cat([one["pixel_values"] for one in pixels])).split(1)
        seen = [
            self.model.get_image_features(pixel_values=tile, return_dict=True).pooler_output
            for tile in tiles
        ]
        return Features(torch.cat(seen).flatten(0, 1), [])

    def answer(
        self, task: Task, encoded: Encoded, text: str, finish_reason: FinishReason
    ) -> Answer:
        answer = super().answer(task, encoded, text, finish_reason)
        return answer.model_copy(
            update={
                "prompt_used": False if task.kind == "chat" else None,
                "warning": _warning(task.language),
            }
        )

    def _in_tiles(self, options: Options, image: Image.Image) -> bool:
        """Returns whether a page is large. The model was trained on tiles of whole pages only."""
        if options.box or options.color:
            return False
        tile = self._processor.image_processor.size
        return image.width * image.height > _LARGE_PAGE * tile["height"] * tile["width"]


def _checked_box(options: Options, image: Image.Image) -> list[int] | None:
    """Returns the box as a new list, because the processor writes into it.

    Raises `Refusal` (BAD_PARAMETER) if it is not inside the image.
    """
    if options.box is None:
        return None
    left, top, right, bottom = options.box
    if not (0 <= left < right <= image.width and 0 <= top < bottom <= image.height):
        raise Refusal(
            ErrorCode.BAD_PARAMETER,
            f"The box {left},{top},{right},{bottom} is empty or not inside the image, which has "
            f"{image.width} x {image.height} pixels.",
        )
    return [left, top, right, bottom]


def _warning(language: str | None) -> str | None:
    if language is None or language in _LANGUAGES:
        return None
    return (
        "GOT-OCR 2.0 was taught English and Chinese: "
        f"text in {langcodes.get(language).display_name()} may be misread."
    )
