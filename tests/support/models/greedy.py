"""Greedy decoding through a `Vlm` by hand, without the batcher."""

from collections.abc import Sequence

import torch
from transformers import DynamicCache

from runners.vlm.interface import Encoded, Prefilled, Vlm


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
