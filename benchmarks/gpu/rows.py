"""Rows of one page each in a batcher that is stepped by hand, from CUDA graphs or without."""

from collections.abc import Callable, Sequence

from torch import Tensor

from benchmarks.support.random_qwen import make_requests
from benchmarks.support.schemes import encode, make_batcher, make_row
from runners.decoder.decode import make_decode_step
from runners.decoder.graphs import GraphedStep
from runners.families.qwen_vl import QwenVl
from runners.scheduling.row import GREEDY, Row, Sampling
from runners.transformers_models.transformers_vlm import TransformersVlm
from runners.vlm.batcher import Batcher
from runners.vlm.interface import Encoded

UNHURRIED = 3600.0
"""Seconds of a token gap with which a prefill computes all that fits into one."""
_SIDES, _TINY_SIDES = (900, 1000), (90, 130)
"""Pixels of the sides of a page; about 900 visual tokens, or a dozen."""
_NEW_TOKENS = 120
"""Fewer than the shortest loop that ends a row: a random model soon repeats itself."""


def make_prompts(vlm: QwenVl, count: int, tiny: bool) -> list[Encoded]:
    requests = make_requests(count, (_NEW_TOKENS, _NEW_TOKENS), _TINY_SIDES if tiny else _SIDES)
    return [encode(vlm, asked) for asked in requests]


def fill(
    vlm: QwenVl, prompts: Sequence[Encoded], sampling: Sampling = GREEDY
) -> tuple[Batcher, list[Row]]:
    """A batcher all of whose rows run."""
    batcher = make_batcher(vlm, UNHURRIED)
    rows = [make_row(prompt, _NEW_TOKENS, sampling) for prompt in prompts]
    for row in rows:
        batcher.submit(row)
    while not all(row.tokens for row in rows):
        batcher.step()
        assert not any(row.future.done() for row in rows), "a row ended while others were read"
    return batcher, rows


def use_graphs(vlm: TransformersVlm, graphs: bool) -> None:
    """Lets a model decode from CUDA graphs, or without.

    On a CPU the code around the graphs runs all the same, and computes where a graph is replayed.
    """
    if graphs and vlm.device.type == "cpu":
        vlm.decode_step = GraphedStep(vlm.decoder, vlm.pool, vlm.device, _compute_again)
    else:
        vlm.decode_step = make_decode_step(vlm.decoder, vlm.pool, vlm.device, graphs)


def _compute_again(run: Callable[[], Tensor]) -> tuple[Callable[[], object], Tensor]:
    result = run()
    return (lambda: result.copy_(run())), result
