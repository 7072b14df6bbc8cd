"""A text-only `Vlm`: the library's own Qwen2, small and random, whose tokens are bytes."""

import copy
from collections.abc import Sequence

import torch
from torch import nn
from transformers import Qwen2Config, Qwen2ForCausalLM

from common.messages import Answer, FinishReason
from runners.transformers_models.transformers_vlm import TransformersVlm
from runners.vlm.interface import DecodedRequest, Encoded, Task

STOP = 232


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

    def encode(self, request: DecodedRequest) -> Encoded:
        """Encode the texts of the last turn."""
        texts = [part for part in request.turns[-1].parts if isinstance(part, str)]
        return encode("".join(texts).encode())

    def text(self, tokens: Sequence[int]) -> str:
        return bytes(tokens).decode(errors="replace")

    def answer(
        self, task: Task, encoded: Encoded, text: str, finish_reason: FinishReason
    ) -> Answer:
        return Answer(text=text, image_size=encoded.image_size, finish_reason=finish_reason)

    @property
    def tower_blocks(self) -> nn.ModuleList:
        raise NotImplementedError("it takes no images")

    def image_features(self, pixels):
        raise NotImplementedError("it takes no images")

    def generate(self, encoded: Encoded, max_new_tokens: int) -> list[int]:
        """What the library's own `generate` makes of this prompt alone, the stop token left out."""
        ids = encoded.tokens[None]
        made = self.plain.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=max_new_tokens,
            do_sample=False,
        )
        return [token for token in made[0, ids.shape[1] :].tolist() if token != STOP]


class _Tokenizer:
    eos_token_id = STOP


def encode(tokens: Sequence[int], shared: int = 0) -> Encoded:
    """The prompt of these tokens. shared: how many of them count as a prefix that rows share."""
    prompt = torch.tensor(list(tokens))
    return Encoded(
        tokens=prompt,
        positions=torch.arange(len(prompt))[None],
        pixels={},
        image_key=b"",
        prefix_length=shared,
        visual=torch.tensor([], dtype=torch.long),
        image_size=(1, 1),
    )
