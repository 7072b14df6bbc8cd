"""Calls a function again and again while a model is being run, so that other work gets its turn."""

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import nn

from runners.transformers_models.cut_operations import CutOperations

_QUEUED_LAYERS = 2
"""How many layers may wait in the queue of a GPU, which must not run dry meanwhile."""


@contextmanager
def called_between(
    layers: nn.ModuleList, function: Callable[[], object] | None, device: torch.device
) -> Iterator[None]:
    """While it is open, `function` is called again and again as the layers run; None: nothing is.

    On a GPU it is called before each layer. The GPU runs behind the CPU, which starts all layers
    within milliseconds; so that the function comes between layers on the GPU too, the CPU waits
    until all but the last few have run. On a CPU, where a layer of a large image takes seconds, it
    is called after each operation that this thread computes, see `CutOperations`.
    """
    if function is None:
        yield
        return
    if device.type == "cpu":
        with CutOperations(function):
            yield
        return
    called = function
    started: deque[torch.cuda.Event] = deque()

    def call(*_: object) -> None:
        event = torch.cuda.Event()
        event.record(torch.cuda.current_stream(device))
        started.append(event)
        if len(started) > _QUEUED_LAYERS:
            started.popleft().synchronize()
        called()

    hooks = [layer.register_forward_pre_hook(call) for layer in layers]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
