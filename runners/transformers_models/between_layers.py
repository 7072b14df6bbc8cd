"""Calls a function again and again while a model is being run, so that other work gets its turn."""

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_QUEUED_LAYERS = 2
"""How many layers may wait in the queue of a GPU, which must not run dry meanwhile."""
_SLICE = 512
"""Queries that a CPU attends for at once while a function is called between them."""
_function: ContextVar[Callable[[], object] | None] = ContextVar("function", default=None)


@contextmanager
def called_between(
    layers: nn.ModuleList, function: Callable[[], object] | None, device: torch.device
) -> Iterator[None]:
    """While it is open, `function` is called again and again as the layers run; None: nothing is.

    On a GPU it is called before each layer. The GPU runs behind the CPU, which starts all layers
    within milliseconds; so that the function comes between layers on the GPU too, the CPU waits
    until all but the last few have run. On a CPU, where a layer of a large image takes seconds, it
    is called before each operation of a layer, and by `attend_in_slices`.
    """
    if function is None:
        yield
        return
    called = function
    started: deque[torch.cuda.Event] = deque()

    def call(*_: object) -> None:
        if device.type == "cuda":
            event = torch.cuda.Event()
            event.record(torch.cuda.current_stream(device))
            started.append(event)
            if len(started) > _QUEUED_LAYERS:
                started.popleft().synchronize()
        called()

    inner = [module for module in layers.modules() if not list(module.children())]
    hooked = layers if device.type == "cuda" else inner
    hooks = [module.register_forward_pre_hook(call) for module in hooked]
    token = _function.set(called if device.type == "cpu" else None)
    try:
        yield
    finally:
        _function.reset(token)
        for hook in hooks:
            hook.remove()


def attend_in_slices(queries: Tensor, keys: Tensor, values: Tensor, scale: float) -> Tensor:
    """Attention without a mask; all [1, heads, tokens, head size].

    Within `called_between`, the queries are taken in slices, and the function is called after each.
    """
    function = _function.get()
    if function is None or queries.shape[2] <= _SLICE:
        return F.scaled_dot_product_attention(queries, keys, values, scale=scale)
    attended = []
    for own in queries.split(_SLICE, 2):
        attended.append(F.scaled_dot_product_attention(own, keys, values, scale=scale))
        function()
    return torch.cat(attended, 2)
