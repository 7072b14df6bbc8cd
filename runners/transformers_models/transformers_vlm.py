"""A model of the transformers library as a `Vlm`."""

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from itertools import accumulate
from typing import cast

import torch
from llguidance import LLTokenizer
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.convert_slow_tokenizer import bytes_to_unicode

from common.messages import Answer, FinishReason
from runners.checkpoints.packed_linear import pack_linears
from runners.checkpoints.quantising import stored_parts
from runners.checkpoints.sampling_defaults import checkpoint_parameters
from runners.constraints.vocabulary import vocabulary_of
from runners.decoder.attention.choice import BLOCK_SIZE, choose_attention
from runners.decoder.decode import DecodeStep, make_decode_step
from runners.decoder.decoder import Added, Decoder, last_tokens
from runners.decoder.graphs import GraphedStep
from runners.transformers_models.between_layers import called_between
from runners.transformers_models.tensor_lru import TensorLru
from runners.vlm.interface import Encoded, Features, RowPart, Task, Vlm

_FEATURES_SHARE = 1 / 4
"""Share of the reuse memory that is for image features; the rest is for prefixes. The features of
an image take a fifth (Qwen3-VL 8B) to a fiftieth (GOT-OCR 2.0) of the memory of its keys and
values, so they are kept for longer."""
_MOST_TOKENS = {"cpu": 512, "cuda": 8192}
"""Tokens of the largest prefill. On a CPU the hidden states of more leave its caches."""

_BYTES = {character: byte for byte, character in bytes_to_unicode().items()}
"""The byte for which each character stands in a byte-level vocabulary."""


class TransformersVlm(Vlm):
    """A vision tower of the transformers library, and its decoder over a KV cache in blocks."""

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        reuse_bytes: int,
        block_size: int = BLOCK_SIZE,
    ) -> None:
        """Take the model apart: its `forward` and `generate` do not work afterwards.

        reuse_bytes: how much may be kept for reuse between requests. block_size: columns of a block
        of the KV cache.
        """
        self.model = model
        self.tokenizer = tokenizer
        self.device = model.device
        self.dtype = model.dtype
        self.stop_tokens = _stop_tokens(model, tokenizer)
        self.sampling = checkpoint_parameters(model.generation_config)
        self.decoder = Decoder(model)
        pack_linears(model)
        self.weights_bytes = _bytes_of(model, self.decoder)
        self._attention = choose_attention(self.device, self.dtype)
        self.pool = self.decoder.make_pool(block_size)
        self.most_tokens = _MOST_TOKENS[self.device.type]
        features = int(reuse_bytes * _FEATURES_SHARE)
        self.prefix_bytes = reuse_bytes - features
        self._features = TensorLru[Features](features)
        self.decode_step: DecodeStep = make_decode_step(
            self.decoder, self.pool, self.device, graphs=not self.decoder.is_quantised
        )

    @torch.no_grad()
    def encode_images(
        self, prompts: Sequence[Encoded], between: Callable[[], object] | None
    ) -> list[Features]:
        seen = {prompt.image_key: self._features.get(prompt.image_key) for prompt in prompts}
        new = {p.image_key: p for p in prompts if seen[p.image_key] is None}
        if new:
            with called_between(self.tower_blocks, between, self.device):
                features = self.image_features([prompt.pixels for prompt in new.values()])
            counts = [prompt.visual_tokens for prompt in new.values()]
            for key, found in zip(new, _split(features, counts), strict=True):
                seen[key] = found
                self._features.put(key, found)
        return [seen[prompt.image_key] for prompt in prompts]  # type: ignore[misc]

    @torch.no_grad()
    def prefill(self, rows: Sequence[RowPart]) -> Tensor:
        parts = [one.part for one in rows]
        tokens, positions = self._tokens(rows)
        hidden, added = self._embedded(tokens, rows)
        return self.decoder(
            hidden,
            self.to_device(positions),
            self._attention(self.pool, parts, self.decoder.scale),
            last_tokens([part.count for part in parts]),
            added,
        )

    @torch.no_grad()
    def decode(self, rows: Sequence[RowPart]) -> Tensor:
        tokens = [one.made[-1] for one in rows]
        positions = [one.encoded.next_position + len(one.made) - 1 for one in rows]
        return self.decode_step(tokens, positions, [one.part for one in rows])

    def text(self, tokens: Sequence[int]) -> str:
        return self.tokenizer.decode(
            list(tokens), skip_special_tokens=True, clean_up_tokenization_spaces=False
        )

    def token_data(self, token: int) -> bytes:
        written = cast(str, self.tokenizer.convert_ids_to_tokens(token))
        if token in self.tokenizer.added_tokens_decoder or not _BYTES.keys() >= set(written):
            return written.encode()
        return bytes(_BYTES[character] for character in written)

    @cached_property
    def vocabulary(self) -> LLTokenizer:
        size = self.decoder.embedding.num_embeddings
        return vocabulary_of(self.tokenizer, size, self.stop_tokens)

    def answer(
        self, task: Task, encoded: Encoded, text: str, finish_reason: FinishReason
    ) -> Answer:
        return Answer(text=text.strip(), image_size=encoded.image_size, finish_reason=finish_reason)

    def has_features(self, image_key: bytes) -> bool:
        """Whether the features of images are kept now. For any thread."""
        return image_key in self._features

    @property
    def captures(self) -> int:
        return self.decode_step.captures if isinstance(self.decode_step, GraphedStep) else 0

    def release_buffers(self) -> None:
        if isinstance(self.decode_step, GraphedStep):
            self.decode_step.release()

    def forget(self) -> None:
        self._features.clear()

    @property
    def reuse_stats(self) -> dict[str, dict[str, int]]:
        return {"features": self._features.stats}

    @property
    @abstractmethod
    def tower_blocks(self) -> nn.ModuleList:
        """The layers of the vision tower."""

    @abstractmethod
    def image_features(self, pixels: Sequence[Mapping[str, Tensor]]) -> Features:
        """Run the vision tower once over the images of several prompts.

        pixels: `Encoded.pixels` of each, on the CPU. Returns the visual tokens of all, in order.
        """

    def to_device(self, tensor: Tensor) -> Tensor:
        return tensor.to(self.device, non_blocking=True)

    def _tokens(self, rows: Sequence[RowPart]) -> tuple[Tensor, Tensor]:
        """The parts' tokens [tokens] and their positions [axes, tokens], on the CPU."""
        tokens, positions = [], []
        for one in rows:
            length, part = one.encoded.length, one.part
            tokens.append(one.encoded.tokens[part.start : part.end])
            positions.append(one.encoded.positions[:, part.start : part.end])
            if part.end > length:  # a row that gave way goes on after its own tokens
                made = range(max(part.start - length, 0), part.end - length)
                tokens.append(torch.tensor([one.made[index] for index in made]))
                places = torch.tensor(made) + one.encoded.next_position
                positions.append(places.expand(len(one.encoded.positions), -1))
        return torch.cat(tokens), torch.cat(positions, -1)

    def _embedded(self, tokens: Tensor, rows: Sequence[RowPart]) -> tuple[Tensor, Added | None]:
        """The embeddings of packed tokens, and what is added to them in the first layers."""
        hidden = self.decoder.embedding(self.to_device(tokens))
        places, features = [], []
        firsts = [0, *accumulate(one.part.count for one in rows)]
        for first, one in zip(firsts, rows, strict=False):
            visual = one.encoded.visual
            begin, end = torch.searchsorted(
                visual, torch.tensor([one.part.start, one.part.end])
            ).tolist()
            if begin < end:
                assert one.features is not None, "image tokens need what was seen"
                places.append(visual[begin:end] - one.part.start + first)
                features.append((one.features, begin, end))
        if not places:
            return hidden, None
        indices = self.to_device(torch.cat(places))
        seen = torch.cat([found.tokens[begin:end] for found, begin, end in features])
        hidden.index_copy_(0, indices, seen.to(hidden))
        added = [
            torch.cat([found.added[layer][begin:end] for found, begin, end in features])
            for layer in range(len(features[0][0].added))
        ]
        return hidden, Added(indices, added) if added else None


def _split(features: Features, counts: Sequence[int]) -> list[Features]:
    """The features of each prompt, as copies: a view would keep the memory of all."""
    parts = zip(
        *(tensor.split(list(counts)) for tensor in (features.tokens, *features.added)), strict=True
    )
    copy = len(counts) > 1
    return [
        Features(*((tokens.clone(), [t.clone() for t in added]) if copy else (tokens, added)))
        for tokens, *added in parts
    ]


def _bytes_of(*modules: nn.Module) -> int:
    """Bytes of all parameters and buffers, each counted once.

    An output projection that is the embedding is another parameter with the same memory.
    """
    tensors = {
        id(part) if part.is_mkldnn else (part.data_ptr(), part.numel()): part
        for module in modules
        for tensor in (*module.parameters(), *module.buffers())
        for part in stored_parts(tensor)
    }
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())


def _stop_tokens(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    """Returns those of the generation config, and the tokenizer's own, which some configs lack."""
    configured = model.generation_config.eos_token_id
    tokens = configured if isinstance(configured, list) else [configured]
    return frozenset({*tokens, tokenizer.eos_token_id} - {None})
