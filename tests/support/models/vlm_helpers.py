"""Prompts for a `Vlm`, pages to read, and greedy decoding by hand."""

import random
from collections.abc import Sequence
from typing import Literal

import torch
from PIL import Image, ImageDraw
from transformers import DynamicCache

from common.messages import Options
from runners.vlm.interface import Encoded, Prefilled, Prompt, PromptTurn, Task, Vlm

MAX_TOKENS = 2048


def page(width: int, height: int, seed: int = 0) -> Image.Image:
    """Coloured rectangles: what a tiny random model tells apart."""
    dice = random.Random(seed)
    image = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(image)
    for _ in range(20):
        colour = tuple(dice.randrange(256) for _ in range(3))
        corner = (dice.randrange(width), dice.randrange(height))
        draw.rectangle([corner, (width, height)], fill=colour)
    return image


Role = Literal["system", "user", "assistant"]
Part = str | Image.Image
PLAIN = Options()


def ocr(image: Image.Image, language: str | None = None, options: Options = PLAIN) -> Prompt:
    """A page to read."""
    return Prompt(Task("ocr", language, options), (PromptTurn("user", (image,)),), MAX_TOKENS)


def chat(image: Image.Image, text: str, options: Options = PLAIN) -> Prompt:
    """A question about an image."""
    return talk(("user", image, text), options=options)


def talk(*turns: tuple[Role, *tuple[Part, ...]], options: Options = PLAIN) -> Prompt:
    """A conversation: of each turn the role, then its texts and images."""
    made = tuple(PromptTurn(role, tuple(parts)) for role, *parts in turns)
    return Prompt(Task("chat", options=options), made, MAX_TOKENS)


def greedy(vlm: Vlm, encoded: Encoded, max_new_tokens: int) -> list[int]:
    """The tokens of one row alone, the stop token included."""
    prefilled = vlm.prefill(encoded)
    cache = DynamicCache(prefilled.layers)
    tokens = [int(prefilled.logits.argmax())]
    while len(tokens) < max_new_tokens and tokens[-1] not in vlm.stop_tokens:
        columns = encoded.length + len(tokens)
        logits = vlm.decode(
            torch.tensor([tokens[-1]]),
            torch.tensor([prefilled.next_position + len(tokens) - 1]),
            torch.ones(1, columns, dtype=torch.bool),
            cache,
        )
        tokens.append(int(logits[0].argmax()))
    return tokens


def greedy_together(vlm: Vlm, rows: Sequence[Encoded], max_new_tokens: int) -> list[list[int]]:
    """The tokens of rows of different lengths decoded together, each `max_new_tokens` long."""
    prefilled = [vlm.prefill(encoded) for encoded in rows]
    lengths = torch.tensor([encoded.length for encoded in rows])
    cache = _right_padded(prefilled, int(lengths.max()) + max_new_tokens)
    positions = torch.tensor([row.next_position for row in prefilled])
    tokens = [torch.stack([row.logits for row in prefilled]).argmax(-1)]
    while len(tokens) < max_new_tokens:
        cache.columns = lengths
        mask = torch.arange(int(lengths.max()) + 1) <= lengths[:, None]
        tokens.append(vlm.decode(tokens[-1], positions, mask, cache).argmax(-1))
        lengths, positions = lengths + 1, positions + 1
    return torch.stack(tokens, dim=1).tolist()


class _RightPadded(DynamicCache):
    """Rows from column 0 on; a step writes each row's `columns`."""

    columns: torch.Tensor

    def update(self, keys, values, layer_idx, *args, **kwargs):
        layer = self.layers[layer_idx]
        rows = torch.arange(len(keys))
        layer.keys[rows, :, self.columns] = keys[:, :, 0]
        layer.values[rows, :, self.columns] = values[:, :, 0]
        width = int(self.columns.max()) + 1
        return layer.keys[:, :, :width], layer.values[:, :, :width]


def _right_padded(rows: Sequence[Prefilled], width: int) -> _RightPadded:
    def pad(tensor: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.pad(tensor, (0, 0, 0, width - tensor.shape[2]))

    return _RightPadded(
        [
            tuple(torch.cat([pad(part) for part in parts]) for parts in zip(*layers, strict=True))
            for layers in zip(*(row.layers for row in rows), strict=True)
        ]
    )
