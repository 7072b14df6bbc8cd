"""Attention of single tokens on a CPU with this project's kernel: one call for all rows.

The kernel (`token_attention.cpp`) is compiled when a model is loaded, in about a second, by the
machine's C++ compiler (`c++`, or the environment variable CXX), for the CPU at hand. PyTorch has no
kernel for rows of different lengths on a CPU, and calling its kernel for each row takes about three
times as long. Where there is no compiler, `tokens.FlashTokens` does that.
"""

import ctypes
import logging
import os
import subprocess
import tempfile
from collections.abc import Sequence
from functools import cache
from itertools import accumulate
from pathlib import Path

import torch
from torch import Tensor

from runners.decoder.kv_pool import KvPool
from runners.decoder.part import Part

logger = logging.getLogger(__name__)

_SOURCE = Path(__file__).with_name("token_attention.cpp")
_FLAGS = "-O3 -march=native -fno-math-errno -fno-exceptions -fopenmp -fPIC"
_NAMES = {torch.float32: "attend_float32", torch.bfloat16: "attend_bfloat16"}
_LANES, _MOST_SIZE = 16, 256
"""A head's size is a multiple of the first, and at most the second."""


def is_available(pool: KvPool) -> bool:
    """Whether the kernel takes the keys and values of a pool, and can be compiled here."""
    shape = pool.shape
    return (
        shape.dtype in _NAMES
        and shape.head_size % _LANES == 0
        and shape.head_size <= _MOST_SIZE
        and load_kernel() is not None
    )


@cache
def load_kernel() -> ctypes.CDLL | None:
    """Compiles and loads the kernel; None, with the reason in the log, if that is not possible."""
    compiler = os.environ.get("CXX", "c++")
    with tempfile.TemporaryDirectory(prefix="chatvlm-") as folder:
        compiled, linked = Path(folder, "kernel.o"), Path(folder, "kernel.so")
        try:
            _run([compiler, *_FLAGS.split(), "-c", str(_SOURCE), "-o", str(compiled)])
            # Linked without libraries: it takes OpenMP's threads from the runtime that PyTorch has
            # loaded. With a second runtime there would be more threads than cores.
            _run([compiler, "-shared", "-nostdlib", str(compiled), "-o", str(linked)])
            kernel = ctypes.CDLL(str(linked))
        except (OSError, subprocess.SubprocessError) as error:
            output = getattr(error, "stderr", None) or str(error)
            logger.warning(
                "Attention on this CPU takes longer than it could, because its kernel cannot be "
                "compiled: install a C++ compiler (g++). The reason: %s",
                output.strip(),
            )
            return None
    pointers, integers = [ctypes.c_void_p] * 6, [ctypes.c_int64] * 6
    for name in _NAMES.values():
        function = getattr(kernel, name)
        function.argtypes = [*pointers, *integers, ctypes.c_float]
        function.restype = None
    return kernel


def _run(command: list[str]) -> None:
    subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)


class CompiledTokens:
    """Attends for tokens of different rows, each of which sees all columns, its own included."""

    def __init__(self, pool: KvPool, parts: Sequence[Part], scale: float) -> None:
        """parts: of one token each. `is_available` has to be true."""
        self._pool = pool
        self._scale = scale
        self._attend = getattr(load_kernel(), _NAMES[pool.shape.dtype])
        pieces = [list(part.runs(part.end, pool.block_size)) for part in parts]
        self._pieces = torch.tensor([piece for own in pieces for piece in own])
        """The pieces of all rows in turn, [pieces, 2]: first column, and column after the last."""
        self._first_pieces = torch.tensor(list(accumulate(map(len, pieces), initial=0)))
        """The index of each row's first piece, and the number of pieces, [tokens + 1]."""
        _, self._column_stride, self._head_stride, _ = pool.keys[0].stride()

    def attend(self, layer: int, queries: Tensor) -> Tensor:
        """queries: [tokens, heads, head size], contiguous. Returns the same shape."""
        tokens, heads, size = queries.shape
        results = torch.empty_like(queries)
        self._attend(
            queries.data_ptr(),
            self._pool.keys[layer].data_ptr(),
            self._pool.values[layer].data_ptr(),
            results.data_ptr(),
            self._pieces.data_ptr(),
            self._first_pieces.data_ptr(),
            tokens,
            self._pool.shape.heads,
            heads // self._pool.shape.heads,
            size,
            self._head_stride,
            self._column_stride,
            self._scale,
        )
        return results
