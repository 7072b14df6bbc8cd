"""The time of a decode step, beside the time of reading what it needs from memory."""

import statistics
import time

from torch import nn

from benchmarks.gpu.machine import DEVICE, Speed, synchronize
from benchmarks.gpu.rows import fill, make_prompts
from benchmarks.support.large_qwen import make_model
from common.units import GIB

_STEPS = 30
_TARGETS = {1: 1.3, 8: 1.3, 32: 1.5, 128: 1.5}
"""Of a step's time to that of the bandwidth alone, by rows."""
_TINY_ROWS = (1, 4)


def measure_steps(size: str, tiny: bool, speed: Speed) -> None:
    """Steps through the batcher, with all of its work. size: of the model, see `SIZES`."""
    vlm = make_model(size, tiny, DEVICE)
    weights = _bytes(vlm.decoder.layers, vlm.decoder.head)
    print(f"A step reads {weights / GIB:.2f} GiB of weights\n")
    print("| rows | columns | step, ms | longest, ms | bandwidth alone, ms | ratio | target |")
    print("|---|---|---|---|---|---|---|")
    counts = _TINY_ROWS if tiny else tuple(_TARGETS)
    prompts = make_prompts(vlm, max(counts), tiny)
    for count in counts:
        batcher, rows = fill(vlm, prompts[:count])
        for _ in range(3):
            batcher.step()
        times = []
        for _ in range(_STEPS):
            synchronize()
            began = time.perf_counter()
            batcher.step()
            times.append(1000 * (time.perf_counter() - began))
        columns = [row.columns for row in rows]
        read = weights + sum(columns) * vlm.pool.bytes_per_column
        floor, step = 1000 * read / speed.copied, statistics.median(times)
        print(
            f"| {count} | {statistics.mean(columns):.0f} | {step:.2f} | {max(times):.2f} "
            f"| {floor:.2f} | {step / floor:.2f} | {_TARGETS.get(count, '')} |",
            flush=True,
        )
        batcher.close()


def _bytes(*modules: nn.Module) -> int:
    tensors = (t for module in modules for t in (*module.parameters(), *module.buffers()))
    return sum(tensor.nbytes for tensor in tensors)
