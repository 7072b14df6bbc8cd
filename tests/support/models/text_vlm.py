"""A `Vlm` of text: the library's own Qwen2, small and random, whose tokens are bytes."""

import copy
from collections.abc import Mapping, Sequence
from functools import cached_property

import torch
from llguidance import LLTokenizer, TokenizerWrapper
from torch import Tensor, nn
from transformers import Qwen2Config, Qwen2ForCausalLM

from runners.transformers_models.transformers_vlm import TransformersVlm
from runners.vlm.interface import Encoded, Features, ModelRequest, RowPart, digest

STOP = 232
_IMAGE = 1
"""Stands for a token of an image in a prompt."""


class TextVlm(TransformersVlm):
    """Its weights are wide, so that greedy text varies and no choice is close."""

    def __init__(self, seed: int = 0, block_size: int = 16, reuse_bytes: int = 2**20) -> None:
        torch.manual_seed(seed)
        config = Qwen2Config(
            vocab_size=256,
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            initializer_range=0.4,
            pad_token_id=0,
            bos_token_id=None,
            eos_token_id=STOP,
        )
        self.plain = Qwen2ForCausalLM(config).eval().requires_grad_(False)
        super().__init__(copy.deepcopy(self.plain), _Tokenizer(), reuse_bytes, block_size)
        self.tower = nn.ModuleList([nn.Identity(), nn.Identity()])
        self.prefilled: list[tuple[int, int]] = []
        """The columns of each part of a prompt that was prefilled: the first, and the one after the
        last."""

    def encode(self, request: ModelRequest) -> Encoded:
        """Encode the texts of the last turn."""
        texts = [part for part in request.turns[-1].parts if isinstance(part, str)]
        return encode("".join(texts).encode())

    def text(self, tokens: Sequence[int]) -> str:
        return bytes(tokens).decode(errors="replace")

    def token_data(self, token: int) -> bytes:
        return bytes([token])

    @cached_property
    def vocabulary(self) -> LLTokenizer:
        return LLTokenizer(TokenizerWrapper(_Bytes()), eos_token=[STOP], slices=[])

    def prefill(self, asked: Sequence[RowPart]) -> Tensor:
        self.prefilled += [
            (one.part.start, one.part.end) for one in asked if one.part.start < one.encoded.length
        ]
        return super().prefill(asked)

    @property
    def tower_blocks(self) -> nn.ModuleList:
        return self.tower

    def image_features(self, pixels: Sequence[Mapping[str, Tensor]]) -> Features:
        """The embeddings of the tokens that an image consists of."""
        tokens = torch.cat([one["tokens"] for one in pixels])
        for block in self.tower:
            tokens = block(tokens)
        return Features(self.decoder.embedding(tokens), [])

    def generate(self, encoded: Encoded, max_new_tokens: int, **more: float) -> list[int]:
        """What the library's own `generate` makes of this prompt alone, the stop token left out.

        more: arguments of the generation config.
        """
        ids = encoded.tokens.clone()
        if encoded.pixels:
            ids[encoded.visual] = encoded.pixels["tokens"]
        made = self.plain.generate(
            ids[None],
            attention_mask=torch.ones_like(ids[None]),
            max_new_tokens=max_new_tokens,
            do_sample=False,
            **more,
        )
        return [token for token in made[0, len(ids) :].tolist() if token != STOP]


class _Tokenizer:
    eos_token_id = STOP


class _Bytes:
    """The vocabulary, as llguidance asks for it."""

    eos_token_id = STOP
    bos_token_id = None
    tokens = tuple(bytes([value]) for value in range(256))
    special_token_ids = (STOP,)

    def __call__(self, text: bytes) -> list[int]:
        return list(text)


def encode(tokens: Sequence[int], shared: int = 0, seen: bool = False) -> Encoded:
    """The prompt of these tokens.

    shared: how many of them count as a prefix that rows share. seen: whether the prefix is an
    image, whose tokens only the vision tower gets.
    """
    prompt = torch.tensor(list(tokens))
    image = prompt[: shared if seen else 0].clone()
    prompt[: len(image)] = _IMAGE
    return Encoded(
        tokens=prompt,
        positions=torch.arange(len(prompt))[None],
        pixels={"tokens": image} if seen else {},
        image_key=digest(image) if seen else b"",
        prefix_length=shared,
        visual=torch.arange(len(image)),
        image_size=(1, 1),
    )
