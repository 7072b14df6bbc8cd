"""dots.ocr reads a page as text or as its layout, depending on which fixed prompt it gets."""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from transformers import Qwen2VLProcessor

from common.catalog import Entry
from common.messages import Answer, FinishReason
from runners.checkpoints.loading import load_checkpoint
from runners.families.dots_ocr.model import DotsOCRForCausalLM, register
from runners.family_words.dots_layout import read_layout
from runners.family_words.dots_ocr import IMAGE, IMAGE_TOKEN, MAX_PIXELS, instruction
from runners.image_sizes import padded_size
from runners.transformers_models.qwen_style_vlm import QwenStyleVlm
from runners.vlm.interface import Encoded, ModelRequest, ModelTurn, Task
from settings import Settings

_TEMPLATE = (
    "{% for message in messages %}<|{{ message.role }}|>{% for part in message.content %}"
    f"{{% if part.type == 'image' %}}{IMAGE}{{% else %}}{{{{ part.text }}}}{{% endif %}}"
    "{% endfor %}<|endof{{ message.role }}|>{% if message.role == 'system' %}{{ '\n' }}{% endif %}"
    "{% endfor %}<|assistant|>"
)
"""The form in which the authors serve the model. The template of their repository's files is not
used: where a message's content is a list it leaves out `<|user|>` and `<|endofuser|>`, without
which pages are read badly, and it fails for other roles."""


def load(entry: Entry, settings: Settings) -> "DotsOcr":
    """Loads the weights of an entry; blocks. Raises `Refusal` as `load_checkpoint` does."""
    register()
    model, processor = load_checkpoint(
        entry, settings, {"dots_ocr": (DotsOCRForCausalLM, DotsOcrProcessor)}, exact=True
    )
    max_pixels = min(settings.max_pixels_of(entry, model.device.type == "cuda"), MAX_PIXELS)
    return DotsOcr(model, processor, max_pixels, settings.reuse_bytes)


class DotsOcrProcessor(Qwen2VLProcessor):
    """The library's processor, with the model's image token and its authors' template."""

    def __init__(
        self,
        image_processor: Any = None,
        tokenizer: Any = None,
        video_processor: Any = None,
        chat_template: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(image_processor, tokenizer, video_processor, _TEMPLATE, **kwargs)
        self.image_token = IMAGE_TOKEN
        self.image_token_id = tokenizer.convert_tokens_to_ids(IMAGE_TOKEN)
        image_processor.temporal_patch_size = 1  # the default is two, for videos


class DotsOcr(QwenStyleVlm):
    """The model, whose answer to the layout prompt becomes blocks and Markdown."""

    patch_projection = "vision_tower.patch_embed.patchifier.proj"

    def encode(self, request: ModelRequest) -> Encoded:
        turns = tuple(map(_without_image_words, request.turns))
        return super().encode(replace(request, turns=turns))

    def instruction(self, task: Task) -> str:
        return instruction(task.options.mode)

    def positions(self, tokens: Tensor, grids: Tensor | None) -> Tensor:
        """[1, length]: an image token counts as any other token."""
        return torch.arange(len(tokens))[None]

    @property
    def tower_blocks(self) -> nn.ModuleList:
        return self.model.vision_tower.blocks

    def answer(
        self, task: Task, encoded: Encoded, text: str, finish_reason: FinishReason
    ) -> Answer:
        answer = super().answer(task, encoded, text, finish_reason)
        if task.kind == "chat" or task.options.mode != "layout":
            return answer
        layout = read_layout(answer.text, self._scale(encoded), encoded.image_size)
        return answer.model_copy(
            update={
                "text": layout.text,
                "blocks": layout.blocks,
                "truncated": layout.truncated,
            }
        )

    def _scale(self, encoded: Encoded) -> tuple[float, float]:
        """Returns pixels of the upright original per pixel of the resized one, across and down."""
        ((width, height),) = encoded.seen_sizes
        padded = padded_size(*encoded.image_size, self.images.token_size)
        return padded[0] / width, padded[1] / height


def _without_image_words(turn: ModelTurn) -> ModelTurn:
    """The turn without the image tokens that the authors' client writes before its prompt.

    The client also sends the images, for which the template writes these tokens.
    """
    count = sum(not isinstance(part, str) for part in turn.parts)
    words = count * IMAGE
    for index, part in enumerate(turn.parts):
        if isinstance(part, str):
            parts = (*turn.parts[:index], part.removeprefix(words), *turn.parts[index + 1 :])
            return replace(turn, parts=parts)
    return turn
