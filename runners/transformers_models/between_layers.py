"""Calls a function between the layers of a model that is being run."""

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import nn

_QUEUED_LAYERS = 2
"""How many layers may wait in the queue of a GPU, which must not run dry meanwhile."""


@contextmanager
def called_between(
    layers: nn.ModuleList, function: Callable[[], object] | None, device: torch.device
) -> Iterator[None]:
    """While it is open, `function` is called before each of the layers; None: nothing is.

    A GPU runs behind the CPU, which starts all layers within milliseconds. So that the function
    comes between layers on the GPU too, the CPU waits until all but the last few have run.
    """
    if function is None:
        yield
        return
    started: deque[torch.cuda.Event] = deque()

    def call(*_: object) -> None:
        if device.type == "cuda":
            event = torch.cuda.Event()
            event.record()
            started.append(event)
            if len(started) > _QUEUED_LAYERS:
                started.popleft().synchronize()
        function()

    hooks = [layer.register_forward_pre_hook(call) for layer in layers]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
