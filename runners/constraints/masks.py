"""Makes the masks of a step, and applies them to its logits."""

from collections.abc import Sequence

import numpy as np
import torch
from llguidance import LLExecutor
from llguidance.numpy import (
    allocate_token_bitmask,
    fill_next_token_bitmask,
    fill_next_token_bitmask_par,
)
from torch import Tensor

from runners.constraints.guide import Guide


class MaskMaker:
    """Makes the masks of the rows of a step.

    A mask takes some ten microseconds. Beside a GPU, whose steps are short, all cores make them; a
    CPU's cores are the model's own, and handing the work to other threads costs more than it saves.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._executor: LLExecutor | None = None
        """Made for the first mask, as it starts threads; None on a CPU."""

    def make(self, guides: Sequence[Guide | None]) -> Tensor | None:
        """The masks of rows, [rows, words] int32, on the device; None if no row has a guide.

        A bit is set for each token that may follow; of a row without a guide all are. It has to be
        called before the forward is enqueued, for the reason of `Sampler.prepare`.
        """
        held = [(row, guide) for row, guide in enumerate(guides) if guide]
        if not held:
            return None
        masks = allocate_token_bitmask(len(guides), held[0][1].vocabulary_size)
        if self._device.type == "cuda":
            self._executor = self._executor or LLExecutor()
            matchers = [(guide.matcher, row) for row, guide in held]
            fill_next_token_bitmask_par(self._executor, matchers, masks)
        else:
            for row, guide in held:
                fill_next_token_bitmask(guide.matcher, masks, row)
        return torch.from_numpy(masks).to(self._device, non_blocking=True)


def apply_masks(logits: Tensor, masks: Tensor | None) -> Tensor:
    """Logits [rows, vocabulary] with minus infinity in place of each token that may not follow.

    They are changed in place. It does not wait for the device.
    """
    if masks is None:
        return logits
    numbers = masks.view(torch.uint8)
    if numbers.device.type == "cpu":  # several times as fast there
        unpacked = np.unpackbits(numbers.numpy(), axis=1, bitorder="little")
        allowed = torch.from_numpy(unpacked).view(torch.bool)
    else:
        bits = 1 << torch.arange(8, dtype=torch.uint8, device=numbers.device)
        allowed = (numbers[:, :, None] & bits != 0).flatten(1)
    return logits.masked_fill_(~allowed[:, : logits.shape[1]], float("-inf"))
