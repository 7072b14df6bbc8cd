"""What this machine is and can do, and how work on its device is timed."""

import gc
import inspect
import math
import statistics
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import torch
import transformers
from torch.nn.attention import varlen

from common.units import GIB, MIB
from runners.decoder.attention.choice import choose_attention

CUDA = torch.cuda.is_available()
DEVICE = "cuda" if CUDA else "cpu"


@dataclass(frozen=True)
class Speed:
    """What was measured here."""

    copied: float
    """Bytes a second that a large copy reads and writes."""
    products: float
    """Floating-point operations a second of a large product."""


def measure(tiny: bool) -> Speed:
    """Prints what the machine is and can do."""
    dtype = torch.bfloat16 if CUDA else torch.float32
    name = torch.cuda.get_device_name() if CUDA else "CPU"
    print(f"{name}, torch {torch.__version__}, transformers {transformers.__version__}")
    if CUDA:
        print(f"CUDA {torch.version.cuda}, cuDNN {torch.backends.cudnn.version()}")
    takes_blocks = "block_table" in inspect.signature(varlen.varlen_attn).parameters
    for kind in (torch.bfloat16, torch.float32):
        attention = choose_attention(torch.device(DEVICE), kind)
        print(f"attention in {kind}: {attention.__name__}")
    print(
        f"varlen_attn of this PyTorch {'takes' if takes_blocks else 'does not take'} a block table"
    )
    source = torch.empty((64 * MIB if tiny else 2 * GIB) // 2, dtype=torch.bfloat16, device=DEVICE)
    target = torch.empty_like(source)
    copied = 2 * source.nbytes / timed(lambda: target.copy_(source))
    side = 512 if tiny else 8192
    matrix = torch.randn(side, side, dtype=dtype, device=DEVICE)
    products = 2 * side**3 / timed(lambda: matrix @ matrix)
    print(f"copies {copied / 1e12:.2f} TB/s, {dtype} products {products / 1e12:.2g} TFLOP/s")
    return Speed(copied, products)


def timed(work: Callable[[], object], times: int = 10) -> float:
    """The median time of some work on the device, seconds; the first three are not counted."""
    found = []
    for _ in range(times + 3):
        synchronize()
        began = time.perf_counter()
        work()
        synchronize()
        found.append(time.perf_counter() - began)
    return statistics.median(found[3:])


def synchronize() -> None:
    if CUDA:
        torch.cuda.synchronize()


def waits_of(work: Callable[[], object]) -> float:
    """How often the CPU waits for the device in some work; NaN without a GPU."""
    if not CUDA:
        work()
        return math.nan
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            work()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return sum("synchroniz" in str(warning.message) for warning in seen)


def free_memory() -> None:
    """Gives back what nothing refers to."""
    gc.collect()
    if CUDA:
        torch.cuda.empty_cache()


def allocated() -> int:
    """Bytes of tensors on the device; 0 without a GPU."""
    return torch.cuda.memory_allocated() if CUDA else 0
