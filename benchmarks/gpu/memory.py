"""What is answered when memory runs out, and what an unload gives back."""

from functools import partial

import torch

from benchmarks.gpu.machine import CUDA, DEVICE, allocated, free_memory
from benchmarks.gpu.rows import UNHURRIED, make_prompts
from benchmarks.support.large_qwen import make_model
from benchmarks.support.schemes import make_batcher, make_row
from common.units import GIB, MIB
from runners.scheduling.row import Sampling

_LEFT = 2 * GIB
"""Bytes of a GPU that are left to the rows. They come to about 3.4 GiB."""
_ROWS = 24
_NEW_TOKENS = 200
_MOST_STEPS = 20_000
_UNLOADED = 64 * MIB
"""How much more may be allocated after an unload than before the load: workspaces of libraries."""


def check_memory(tiny: bool) -> None:
    """Raises `AssertionError` if a row is not answered, or memory is not given back."""
    before = allocated()
    _run_out(tiny)
    free_memory()
    after = allocated()
    print(f"allocated before {before / GIB:.2f} GiB, after the unload {after / GIB:.2f} GiB")
    assert after - before <= _UNLOADED, f"an unload leaves {(after - before) / GIB:.2f} GiB"


def _run_out(tiny: bool) -> None:
    """Has rows run that memory does not hold at once; without a GPU a budget takes its place."""
    vlm = make_model("2B", tiny, DEVICE)
    prompts = make_prompts(vlm, _ROWS, tiny)
    budget = 2**40 if CUDA else _ROWS * vlm.pool.bytes_per_block
    batcher = make_batcher(vlm, UNHURRIED, budget)
    rows = [
        make_row(prompt, _NEW_TOKENS, Sampling(1.0, seed=number))
        for number, prompt in enumerate(prompts)
    ]
    told: list[list[int]] = [[] for _ in rows]
    for row, own in zip(rows, told, strict=True):
        row.on_token = partial(list.append, own)
    filler = None
    if CUDA:
        free, _ = torch.cuda.mem_get_info()
        filler = torch.empty(max(free - _LEFT, 0), dtype=torch.uint8, device=DEVICE)
    for row in rows:
        batcher.submit(row)
    steps = 1
    while batcher.step() and steps < _MOST_STEPS:
        steps += 1
    del filler
    ended = [row for row in rows if row.future.done()]
    answered = [row for row in ended if row.future.exception() is None]
    print(
        f"{len(answered)} of {_ROWS} rows were answered in {steps} steps; "
        f"{batcher.preemptions} times a row gave its memory back and went on later"
    )
    batcher.close()
    assert len(ended) == _ROWS, f"{_ROWS - len(ended)} rows never ended"
    assert len(answered) == _ROWS, f"{_ROWS - len(answered)} rows were refused"
    assert batcher.preemptions, "memory did not run out: no row gave way"
    repeated = [own for row, own in zip(rows, told, strict=True) if row.tokens != own]
    assert not repeated, f"{len(repeated)} streams repeated themselves or left tokens out"
