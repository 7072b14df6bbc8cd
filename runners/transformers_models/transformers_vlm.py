"""A model of the transformers library as a `Vlm`."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import Cache, DynamicCache, PreTrainedModel, PreTrainedTokenizerBase
from transformers.modeling_outputs import BaseModelOutputWithPooling

from common.messages import Answer, FinishReason
from runners.transformers_models.tensor_lru import TensorLru
from runners.vlm.interface import Encoded, Layers, Prefilled, Task, Vlm

_FEATURES_SHARE = 1 / 4
"""Share of the reuse memory that is for image features; the rest is for prefixes. The features of
an image take a fifth (Qwen3-VL 8B) to a fiftieth (GOT-OCR 2.0) of the memory of its keys and
values, so they are kept for longer."""


class TransformersVlm(Vlm):
    """A vision encoder and a decoder, with the interface of the transformers library.

    The keys and values of a prompt's prefix (up to the end of the last image) are kept for reuse.
    A miss runs the whole prompt, a hit only the rest. In float32 both give the same tokens; the
    logits may differ in their last bits, as the operations have other shapes.
    """

    def __init__(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, reuse_bytes: int
    ) -> None:
        """reuse_bytes: how much may be kept for reuse between requests."""
        self.model = model
        self.tokenizer = tokenizer
        self.device = model.device
        self.dtype = model.dtype
        self.weights_bytes = model.get_memory_footprint()
        self.stop_tokens = _stop_tokens(model, tokenizer)
        features = int(reuse_bytes * _FEATURES_SHARE)
        self._features = TensorLru[BaseModelOutputWithPooling](features)
        self._prefixes = TensorLru[Layers](reuse_bytes - features)

    @torch.no_grad()
    def prefill(self, encoded: Encoded) -> Prefilled:
        positions = encoded.inputs["position_ids"]
        next_position = int(positions.max()) + 1
        tokens = self.to_device(encoded.inputs["input_ids"])
        positions = self.to_device(positions)
        end = encoded.prefix_length
        key = encoded.prefix_key
        prefix = self._prefixes.get(key) if end else None
        if prefix is not None:
            cache = DynamicCache(prefix)
            logits = self._forward(tokens[:, end:], positions[..., end:], cache, logits_to_keep=1)
        else:
            cache = DynamicCache()
            features = self._features_of(encoded)
            logits = self._forward(tokens, positions, cache, logits_to_keep=1, **features)
            if end and self._prefixes.capacity:
                self._prefixes.put(key, _first_columns(cache, end))
        return Prefilled(logits[0, 0], _layers(cache), next_position)

    @torch.no_grad()
    def decode(self, tokens: Tensor, positions: Tensor, mask: Tensor, cache: Cache) -> Tensor:
        # The library uses a mask of four dimensions as it is, and adds no causal mask. Every layer
        # would convert a boolean one to these numbers.
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
        self, task: Task, encoded: Encoded, text: str, finish_reason: FinishReason
    ) -> Answer:
        return Answer(text=text.strip(), image_size=encoded.image_size, finish_reason=finish_reason)

    def forget(self) -> None:
        self._features.clear()
        self._prefixes.clear()

    @property
    def reuse_stats(self) -> dict[str, dict[str, int]]:
        return {"features": self._features.stats, "prefixes": self._prefixes.stats}

    @abstractmethod
    def image_features(self, inputs: dict[str, Tensor]) -> BaseModelOutputWithPooling:
        """Returns the visual tokens of the images, on the model's device. inputs: on the CPU."""

    def _features_of(self, encoded: Encoded) -> dict[str, Any]:
        """Returns the arguments that replace the pixel values; none without an image."""
        if not encoded.prefix_length:
            return {}
        kept = self._features.get(encoded.image_key)
        if kept is None:
            features = self.image_features(encoded.inputs)
            # Without the encoder's own hidden states, which are large and no longer needed.
            kept = type(features)(
                **{
                    name: value
                    for name, value in features.items()
                    if name in ("pooler_output", "deepstack_features")
                }
            )
            self._features.put(encoded.image_key, kept)
        return {"mm_encoder_outputs": {"image": kept}}

    def to_device(self, tensor: Tensor) -> Tensor:
        return tensor.to(self.device, non_blocking=True)

    def _forward(self, tokens: Tensor, positions: Tensor, cache: Cache, **inputs: object) -> Tensor:
        """Returns logits [rows, tokens, vocabulary], of all tokens unless `inputs` limit them."""
        return self.model(
            input_ids=tokens,
            position_ids=positions,
            cache=cache,
            use_cache=True,
            **inputs,
        ).logits


def _layers(cache: Cache) -> Layers:
    return [(layer.keys, layer.values) for layer in cache.layers]


def _first_columns(cache: Cache, end: int) -> Layers:
    """Returns copies, because views would keep the memory of the whole prompt."""
    return [
        (keys[:, :, :end].clone(), values[:, :, :end].clone()) for keys, values in _layers(cache)
    ]


def _stop_tokens(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    """Returns those of the generation config, and the tokenizer's own, which some configs lack."""
    configured = model.generation_config.eos_token_id
    tokens = configured if isinstance(configured, list) else [configured]
    return frozenset({*tokens, tokenizer.eos_token_id} - {None})
