"""A text-only `Vlm`: the library's own Qwen2, small and random, whose tokens are bytes."""

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import Cache, DynamicCache, Qwen2Config, Qwen2ForCausalLM

from common.messages import Answer, FinishReason
from runners.vlm.interface import DecodedRequest, Encoded, Prefilled, Task, Vlm

STOP = 232


class TextVlm(Vlm):
    """Its weights are wide, so that greedy text varies and no choice is close."""

    stop_tokens = frozenset({STOP})
    device = torch.device("cpu")
    dtype = torch.float32

    def __init__(self, seed: int = 0) -> None:
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
        self.model = Qwen2ForCausalLM(config).eval().requires_grad_(False)
        self.weights_bytes = self.model.get_memory_footprint()

    def encode(self, request: DecodedRequest) -> Encoded:
        """Encode the texts of the last turn."""
        texts = [part for part in request.turns[-1].parts if isinstance(part, str)]
        return encode("".join(texts).encode())

    def prefill(self, encoded: Encoded) -> Prefilled:
        cache = DynamicCache()
        logits = self.model(encoded.inputs["input_ids"], cache=cache).logits[0, -1]
        layers = [(layer.keys, layer.values) for layer in cache.layers]
        return Prefilled(logits, layers, encoded.length)

    def decode(self, tokens: Tensor, positions: Tensor, mask: Tensor, cache: Cache) -> Tensor:
        return self.model(
            tokens[:, None],
            attention_mask=mask[:, None, None],
            position_ids=positions[:, None],
            cache=cache,
        ).logits[:, -1]

    def text(self, tokens: Sequence[int]) -> str:
        return bytes(tokens).decode(errors="replace")

    def answer(
        self, task: Task, encoded: Encoded, text: str, finish_reason: FinishReason
    ) -> Answer:
        return Answer(text=text, image_size=encoded.image_size, finish_reason=finish_reason)

    def generate(self, encoded: Encoded, max_new_tokens: int) -> list[int]:
        """What the library's own `generate` makes of this prompt alone, the stop token left out."""
        ids = encoded.inputs["input_ids"]
        made = self.model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=max_new_tokens,
            do_sample=False,
        )
        return [token for token in made[0, ids.shape[1] :].tolist() if token != STOP]


def encode(tokens: Sequence[int]) -> Encoded:
    """The prompt of these tokens."""
    return Encoded(
        inputs={"input_ids": torch.tensor([list(tokens)])},
        image_key=b"",
        prefix_length=0,
        visual_tokens=0,
        image_size=(1, 1),
    )
