"""GOT-OCR 2.0 (Wei et al., 2024) reads a page, a box of it, or what a coloured frame encloses.

It follows a few fixed prompts and answers no questions.
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
from transformers.models.got_ocr2.image_processing_got_ocr2 import get_optimal_tiled_canvas

from common.catalog import Entry
from common.failures import ErrorCode, Refusal
from common.messages import Answer, Box, FinishReason, Options
from runners.checkpoints.loading import load_checkpoint
from runners.transformers_models.transformers_vlm import TransformersVlm
from runners.vlm.interface import Encoded, Features, ModelRequest, Task, digest
from settings import Settings

_LANGUAGES = {"en", "zh"}
"""Languages that the model was trained on."""
_LARGE_PAGE = 4
"""A page of more than this many times a tile's area is read in tiles. In a single tile it would
keep less than half of its resolution in each direction."""
_MOST_TILES = 6
"""Tiles of a large page, besides a small image of the whole; the model was trained on no more."""


def load(entry: Entry, settings: Settings) -> "GotOcr":
    """Loads the weights of an entry; blocks. Raises `Refusal` as `load_checkpoint` does."""
    model, processor = load_checkpoint(
        entry, settings, {"got_ocr2": (GotOcr2ForConditionalGeneration, GotOcr2Processor)}
    )
    return GotOcr(model, processor, settings.reuse_bytes)


class GotOcr(TransformersVlm):
    """GOT-OCR 2.0. It turns an image into 256 visual tokens; a large page, read in tiles, into up
    to 7 times as many."""

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
        in_tiles = self._in_tiles(options, image)
        inputs = self._processor(
            image,
            text=self._prompt(_query(options, image, in_tiles)),
            crop_to_patches=in_tiles,
            max_patches=_MOST_TILES,
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
            seen_sizes=(self._seen_size(image, in_tiles),),
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

    def _seen_size(self, image: Image.Image, in_tiles: bool) -> tuple[int, int]:
        """Width, height in which the model sees an image, in all tiles together."""
        tile = self._processor.image_processor.size
        across, down = 1, 1
        if in_tiles:
            sides = (image.height, image.width), (tile["height"], tile["width"])
            across, down = get_optimal_tiled_canvas(*sides, 1, _MOST_TILES)
        return across * tile["width"], down * tile["height"]

    def _prompt(self, query: str) -> str:
        """The whole prompt, with one image token, which the processor repeats."""
        processor = self._processor
        turns = (
            processor.system_query,
            f"user\n{processor.img_start_token}{processor.image_token}{processor.img_end_token}"
            f"\n{query}",
        )
        begin, end = processor.message_start_token, processor.message_end_token
        return "".join(f"{begin}{turn}{end}" for turn in turns) + f"{begin}assistant\n"

    def _in_tiles(self, options: Options, image: Image.Image) -> bool:
        """Returns whether a page is large. The model was trained on tiles of whole pages only."""
        if options.box or options.color:
            return False
        tile = self._processor.image_processor.size
        return image.width * image.height > _LARGE_PAGE * tile["height"] * tile["width"]


def _query(options: Options, image: Image.Image, in_tiles: bool) -> str:
    """The words that ask for a reading, as the model's authors write them.

    The library's processor writes a space more before "OCR", and another after a colour.

    Raises `Refusal` (BAD_PARAMETER) if the box is not inside the image, or beside a colour.
    """
    if options.box and options.color:
        raise Refusal(
            ErrorCode.BAD_PARAMETER,
            "GOT-OCR 2.0 reads a box or a coloured frame: leave out 'box' or 'color'.",
        )
    where = f"{_thousandths(options.box, image)} " if options.box else ""
    if options.color:
        where = f"[{options.color}] "
    how = " with format" if options.formatted else ""
    return f"{where}OCR{how}{' upon the patch reference' if in_tiles else ''}: "


def _thousandths(box: Box, image: Image.Image) -> list[int]:
    """The box in thousandths of the image's sides.

    Raises `Refusal` (BAD_PARAMETER) if it is not inside the image.
    """
    left, top, right, bottom = box
    if not (0 <= left < right <= image.width and 0 <= top < bottom <= image.height):
        raise Refusal(
            ErrorCode.BAD_PARAMETER,
            f"The box {left},{top},{right},{bottom} is empty or not inside the image, which has "
            f"{image.width} x {image.height} pixels.",
        )
    sides = (image.width, image.height) * 2
    return [int(place / side * 1000) for place, side in zip(box, sides, strict=True)]


def _warning(language: str | None) -> str | None:
    if language is None or language in _LANGUAGES:
        return None
    return (
        "GOT-OCR 2.0 was taught English and Chinese: "
        f"text in {langcodes.get(language).display_name()} may be misread."
    )
