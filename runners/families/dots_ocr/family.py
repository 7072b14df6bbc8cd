"""dots.ocr: a page as text, or as its layout, by which of two fixed prompts it is given."""

from typing import Any

import torch
from torch import Tensor
from transformers import Qwen2VLProcessor

from common.catalog import Entry
from common.messages import Answer, FinishReason, Request
from runners.checkpoints.loading import load_checkpoint
from runners.families.dots_ocr.layout import read_layout
from runners.families.dots_ocr.model import DotsOCRForCausalLM, register
from runners.vlm.interface import ChatVlm, Encoded
from settings import Settings

MAX_PIXELS = 11_289_600
"""Of an image that the model was made for."""
READ = "Extract the text content from this image."
LAYOUT = """\
Please output the layout information from the PDF image, including each layout element's bbox, \
its category, and the corresponding text content within the bbox.

1. Bbox format: [x1, y1, x2, y2]

2. Layout Categories: The possible categories are ['Caption', 'Footnote', 'Formula', 'List-item', \
'Page-footer', 'Page-header', 'Picture', 'Section-header', 'Table', 'Text', 'Title'].

3. Text Extraction & Formatting Rules:
    - Picture: For the 'Picture' category, the text field should be omitted.
    - Formula: Format its text as LaTeX.
    - Table: Format its text as HTML.
    - All Others (Text, Title, etc.): Format their text as Markdown.

4. Constraints:
    - The output text must be the original text from the image, with no translation.
    - All layout elements must be sorted according to human reading order.

5. Final Output: The entire output must be a single JSON object.
"""
"""The model knows its task by these very words, the line break at the end included, as they stand
in `dots_ocr/utils/prompts.py` of its authors' repository; so a language cannot be named."""

_IMAGE_TOKEN = "<|imgpad|>"
_TEMPLATE = (
    "{% for message in messages %}<|user|>{% for part in message.content %}"
    "{% if part.type == 'image' %}<|img|><|imgpad|><|endofimg|>{% else %}{{ part.text }}{% endif %}"
    "{% endfor %}<|endofuser|>{% endfor %}<|assistant|>"
)


def load(entry: Entry, settings: Settings) -> "DotsOcr":
    """Blocks until the model is on its device. Raises `Refusal` where that fails."""
    register()
    model, processor = load_checkpoint(
        entry, settings, {"dots_ocr": (DotsOCRForCausalLM, DotsOcrProcessor)}, exact=True
    )
    max_pixels = min(settings.max_pixels_of(entry.id), MAX_PIXELS)
    return DotsOcr(model, processor, max_pixels, settings.reuse_bytes)


class DotsOcrProcessor(Qwen2VLProcessor):
    """The library's, with the model's own image token and what its files may lack."""

    def __init__(
        self,
        image_processor: Any = None,
        tokenizer: Any = None,
        video_processor: Any = None,
        chat_template: str | None = None,
        **kwargs: Any,
    ) -> None:
        if _IMAGE_TOKEN not in (chat_template or ""):  # its tokenizer's own knows no images
            chat_template = _TEMPLATE
        super().__init__(image_processor, tokenizer, video_processor, chat_template, **kwargs)
        self.image_token = _IMAGE_TOKEN
        self.image_token_id = tokenizer.convert_tokens_to_ids(_IMAGE_TOKEN)
        image_processor.temporal_patch_size = 1  # else two, for the frames of a video


class DotsOcr(ChatVlm):
    def instruction(self, request: Request) -> str:
        return LAYOUT if request.options.mode == "layout" else READ

    def positions(self, tokens: Tensor, grid: Tensor | None) -> Tensor:
        """[1, length]: plain, an image token counting as any other."""
        return torch.arange(tokens.shape[1])[None]

    def answer(
        self, request: Request, encoded: Encoded, text: str, finish_reason: FinishReason
    ) -> Answer:
        answer = super().answer(request, encoded, text, finish_reason)
        if request.task == "chat" or request.options.mode != "layout":
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
        """Pixels of the upright original to one of the resized image, across and down."""
        patch, shortest = self._images.patch_size, self._images.patch_size * self._images.merge_size
        _, rows, columns = encoded.inputs["image_grid_thw"][0].tolist()
        width, height = (max(side, shortest) for side in encoded.image_size)  # once padded
        return width / (columns * patch), height / (rows * patch)
