"""What a family of vision-language models provides to the engine and the batcher.

The batcher sees rows, tokens and positions; all that is special about pixels, prompts and
position encodings stays behind these verbs.
"""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image
from qwen_vl_utils.vision_process import MAX_RATIO, smart_resize
from torch import Tensor
from torchvision.transforms.v2 import InterpolationMode, functional
from transformers import (
    Cache,
    DynamicCache,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    ProcessorMixin,
)
from transformers.modeling_outputs import BaseModelOutputWithPooling

from common.failures import ErrorCode, Refusal
from common.messages import Answer, FinishReason, Request, question
from runners.families.chat_prompt import ChatPrompt
from runners.vlm.tensor_lru import Kept

Layers = list[tuple[Tensor, Tensor]]
"""Keys and values of each layer, [1, heads, length, head size]."""

_FEATURES_SHARE = 1 / 4
"""Of what is kept for reuse. The features of an image take a fifth (Qwen3-VL 8B) to a fiftieth
(GOT-OCR 2.0) of its keys and values, so they outlive them."""


@dataclass(frozen=True)
class Encoded:
    """A request as tensors on the CPU, made beside the decode loop, ready to be prefilled."""

    inputs: dict[str, Tensor]
    """`input_ids` [1, length], `position_ids` [..., 1, length], pixel values, grids."""
    image_key: bytes
    """Digest of the pixel values: equal keys, equal visual features."""
    prefix_length: int
    """Leading tokens, through the last of an image; 0 where there is none."""
    visual_tokens: int
    image_size: tuple[int, int]
    """Width, height of the first upright image, before any resizing."""

    @property
    def length(self) -> int:
        return self.inputs["input_ids"].shape[1]

    @property
    def prefix_key(self) -> bytes:
        """Equal keys, equal prefixes."""
        return self.image_key + digest(self.inputs["input_ids"][:, : self.prefix_length])


@dataclass(frozen=True)
class Prefilled:
    """A row that is ready to join the batch."""

    logits: Tensor
    """[vocabulary], of the prompt's last token, on the model's device."""
    layers: Layers
    next_position: int
    """Position index of the first new token (Qwen: not the length, images count less)."""


class Vlm(ABC):
    """One loaded model, for one thread at a time, but for `encode`, `text` and `answer`: any may
    call these."""

    stop_tokens: frozenset[int]
    weights_bytes: int
    device: torch.device
    dtype: torch.dtype

    @abstractmethod
    def encode(self, request: Request, images: Sequence[Image.Image]) -> Encoded:
        """Prompt and upright RGB images to tensors. Raises `Refusal` for what cannot be asked."""

    @abstractmethod
    def prefill(self, encoded: Encoded) -> Prefilled:
        """Run the whole prompt of one row; reuses what is kept of the same image."""

    @abstractmethod
    def decode(self, tokens: Tensor, positions: Tensor, mask: Tensor, cache: Cache) -> Tensor:
        """One step of every row: logits [rows, vocabulary].

        tokens, positions: [rows] int64, on the device. mask: [rows, columns] bool, true where a
        row may look, the new token's own column included. The cache takes one column a row.
        """

    @abstractmethod
    def text(self, tokens: Sequence[int]) -> str:
        """Tokens to text, special tokens left out; a cut UTF-8 sequence shows as U+FFFD."""

    @abstractmethod
    def answer(
        self, request: Request, encoded: Encoded, text: str, finish_reason: FinishReason
    ) -> Answer:
        """The family's answer, made of the finished row's text (usage is filled in later)."""

    def forget(self) -> None:  # noqa: B027 not every family keeps something
        """Drop everything that is kept between requests."""

    @property
    def reuse_stats(self) -> dict[str, dict[str, int]]:
        """Counters of the vision and prefix cache: hits, misses, evictions, bytes."""
        return {}


class TransformersVlm(Vlm):
    """A model with the interface of the transformers library: a vision encoder and a decoder.

    Where prefixes are kept, the prompt runs in two parts, on a hit as on a miss: the prefix (all up
    to the last image's end), whose keys and values are kept, then the rest. So a hit goes through
    the very operations of a miss, and changes no token.
    """

    def __init__(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, reuse_bytes: int
    ) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.device = model.device
        self.dtype = model.dtype
        self.weights_bytes = model.get_memory_footprint()
        self.stop_tokens = _stop_tokens(model, tokenizer)
        features = int(reuse_bytes * _FEATURES_SHARE)
        self._features = Kept[BaseModelOutputWithPooling](features)
        self._prefixes = Kept[Layers](reuse_bytes - features)

    @torch.no_grad()
    def prefill(self, encoded: Encoded) -> Prefilled:
        positions = encoded.inputs["position_ids"]
        next_position = int(positions.max()) + 1
        tokens = self._to_device(encoded.inputs["input_ids"])
        positions = self._to_device(positions)
        end = encoded.prefix_length
        key = encoded.prefix_key
        prefix = self._prefixes.get(key) if end else None
        cache = DynamicCache(prefix)
        done, features = (0, self._features_of(encoded)) if prefix is None else (end, {})
        if end and prefix is None and self._prefixes.capacity:
            self._forward(
                tokens[:, :end],
                positions[..., :end],
                cache,
                logits_to_keep=positions.new_empty(0),
                **features,
            )
            self._prefixes.put(key, _layers(cache))
            done, features = end, {}
        logits = self._forward(
            tokens[:, done:], positions[..., done:], cache, logits_to_keep=1, **features
        )
        return Prefilled(logits[0, 0], _layers(cache), next_position)

    @torch.no_grad()
    def decode(self, tokens: Tensor, positions: Tensor, mask: Tensor, cache: Cache) -> Tensor:
        # A mask of four dimensions is used as it is: the library adds no causal mask of its own.
        # Boolean, every layer would make it these numbers.
        hidden = torch.zeros(mask.shape, dtype=self.dtype, device=mask.device)
        hidden.masked_fill_(~mask, torch.finfo(self.dtype).min)
        return self._forward(
            tokens[:, None], positions[:, None], cache, attention_mask=hidden[:, None, None, :]
        )[:, 0]

    def text(self, tokens: Sequence[int]) -> str:
        return self.tokenizer.decode(
            list(tokens), skip_special_tokens=True, clean_up_tokenization_spaces=False
        )

    def answer(
        self, request: Request, encoded: Encoded, text: str, finish_reason: FinishReason
    ) -> Answer:
        return Answer(text=text.strip(), image_size=encoded.image_size, finish_reason=finish_reason)

    def forget(self) -> None:
        self._features.clear()
        self._prefixes.clear()

    @property
    def reuse_stats(self) -> dict[str, dict[str, int]]:
        return {"features": self._features.stats, "prefixes": self._prefixes.stats}

    def image_features(self, inputs: dict[str, Tensor]) -> BaseModelOutputWithPooling:
        """What the decoder sees of the images, made of the inputs on the model's device."""
        return self.model.get_image_features(
            pixel_values=inputs["pixel_values"],
            image_grid_thw=inputs["image_grid_thw"],
            return_dict=True,
        )

    def _features_of(self, encoded: Encoded) -> dict[str, Any]:
        """As the model takes them, in place of the pixel values; none without an image."""
        if not encoded.prefix_length:
            return {}
        kept = self._features.get(encoded.image_key)
        if kept is None:
            features = self.image_features(
                {name: self._to_device(value) for name, value in encoded.inputs.items()}
            )
            # The encoder's own hidden states are large and no longer needed.
            kept = type(features)(
                **{
                    name: value
                    for name, value in features.items()
                    if name in ("pooler_output", "deepstack_features")
                }
            )
            self._features.put(encoded.image_key, kept)
        return {"mm_encoder_outputs": {"image": kept}}

    def _forward(self, tokens: Tensor, positions: Tensor, cache: Cache, **inputs: object) -> Tensor:
        """Logits of the tokens kept, [rows, tokens, vocabulary]; by default of all."""
        return self.model(
            input_ids=tokens,
            position_ids=positions,
            cache=cache,
            use_cache=True,
            **inputs,
        ).logits

    def _to_device(self, tensor: Tensor) -> Tensor:
        return tensor.to(self.device, non_blocking=True)


class ChatVlm(TransformersVlm):
    """The image processor of Qwen2-VL and a chat template."""

    def __init__(
        self,
        model: PreTrainedModel,
        processor: ProcessorMixin,
        max_pixels: int,
        reuse_bytes: int,
    ) -> None:
        """max_pixels: what an image is shrunk to before it is read."""
        super().__init__(model, processor.tokenizer, reuse_bytes)
        self._images = processor.image_processor
        self._max_pixels = max_pixels
        self._min_pixels = min(self._images.size["shortest_edge"], max_pixels)
        self._prompt = ChatPrompt(processor)
        self._image_token = processor.image_token_id
        self._context = model.config.get_text_config().max_position_embeddings

    @abstractmethod
    def instruction(self, request: Request) -> str:
        """What the model is told with an image that is to be read."""

    @abstractmethod
    def positions(self, tokens: Tensor, grid: Tensor | None) -> Tensor:
        """Position indices of a prompt, [..., 1, length].

        tokens: [1, length]. grid: [images, 3], the patches of each in time, height and width; None
        without an image.
        """

    def encode(self, request: Request, images: Sequence[Image.Image]) -> Encoded:
        turns = request.turns
        if request.task == "ocr":
            turns = question(request.images, self.instruction(request))
        pictures = self._pictures(images) if images else {}
        grid = pictures.get("image_grid_thw")
        counts = [] if grid is None else (grid.prod(-1) // self._images.merge_size**2).tolist()
        tokens = self._prompt.tokens(turns, counts)
        if len(tokens) + request.max_tokens > self._context:
            raise Refusal(
                ErrorCode.BAD_PARAMETER,
                f"The model takes at most {self._context} tokens together with the answer's; the "
                f"conversation has {len(tokens)}, and max_tokens is {request.max_tokens}.",
            )
        input_ids = torch.tensor([tokens])
        visual = (input_ids[0] == self._image_token).nonzero()
        return Encoded(
            inputs={
                "input_ids": input_ids,
                "position_ids": self.positions(input_ids, grid),
                **pictures,
            },
            image_key=digest(*pictures.values()),
            prefix_length=int(visual[-1]) + 1 if images else 0,
            visual_tokens=len(visual),
            image_size=images[0].size if images else (0, 0),
        )

    def _pictures(self, images: Sequence[Image.Image]) -> dict[str, Tensor]:
        """`pixel_values` of all images, one patch a row, and their grids [images, 3]."""
        made = self._images(
            images=[self._sized(image) for image in images], do_resize=False, return_tensors="pt"
        )
        pixels = made["pixel_values"].to(self.dtype)
        return {"pixel_values": pixels, "image_grid_thw": made["image_grid_thw"]}

    def _sized(self, image: Image.Image) -> Tensor:
        """[3, height, width] uint8, as large as the model is to see it."""
        side = self._images.patch_size * self._images.merge_size
        image = padded(image, side)
        sides = smart_resize(image.height, image.width, side, self._min_pixels, self._max_pixels)
        size = [max(side, length) for length in sides]  # it shrinks a thin strip's to nothing
        return functional.resize(
            functional.pil_to_tensor(image), size, InterpolationMode.BICUBIC, antialias=True
        )


def padded(image: Image.Image, shortest: int) -> Image.Image:
    """The image on white that makes each side at least `shortest` pixels long.

    Otherwise the side of a thin strip would be stretched, or rounded to nothing. Raises `Refusal`
    (BAD_IMAGE) where a side is still more than 200 times the other, which the models do not take.
    """
    width, height = (max(side, shortest) for side in image.size)
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


def digest(*tensors: Tensor) -> bytes:
    """Of the bytes of tensors on the CPU."""
    state = hashlib.blake2b(digest_size=16)
    for tensor in tensors:
        state.update(tensor.contiguous().view(torch.uint8).numpy().data)
    return state.digest()


def _layers(cache: Cache) -> Layers:
    return [(layer.keys, layer.values) for layer in cache.layers]


def _stop_tokens(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    """Those of the generation config and the tokenizer's own, which some of the former forget."""
    configured = model.generation_config.eos_token_id
    tokens = configured if isinstance(configured, list) else [configured]
    return frozenset({*tokens, tokenizer.eos_token_id} - {None})
