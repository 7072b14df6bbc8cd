"""Compiles the kernels and loads them."""

import ctypes
import logging
import os
import subprocess
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path

import torch

logger = logging.getLogger(__name__)

Kernel = Callable[..., None]

_FOLDER = Path(__file__).parent
_FLAGS = "-O3 -march=native -fno-math-errno -fno-exceptions -fopenmp -fPIC"
_SECONDS = 120
"""How long the compiler may take. It takes about two on an idle machine."""
_P, _I, _F = ctypes.c_void_p, ctypes.c_int64, ctypes.c_float
_ARGUMENTS = {
    "attend": [*[_P] * 6, *[_I] * 8, _F],
    "norm": [*[_P] * 3, *[_I] * 2, _F],
    "turn": [*[_P] * 4, *[_I] * 4, _F],
    "gate": [*[_P] * 2, *[_I] * 2],
}
"""The C types of the kernels' arguments. There is a kernel for each of `_TYPES`."""
_TYPES = {torch.float32: "float32", torch.bfloat16: "bfloat16"}


def find_kernel(name: str, dtype: torch.dtype) -> Kernel | None:
    """Returns a kernel for a data type; None if there is none, or if none can be compiled here."""
    return _kernels().get((name, dtype))


@cache
def _kernels() -> dict[tuple[str, torch.dtype], Kernel]:
    """Compiles all kernels for the CPU at hand, with `c++` or the compiler that CXX names."""
    compiler = os.environ.get("CXX", "c++")
    with tempfile.TemporaryDirectory(prefix="chatvlm-") as folder:
        library = Path(folder, "kernels.so")
        try:
            compiled = [
                _compile(compiler, source, Path(folder)) for source in sorted(_FOLDER.glob("*.cpp"))
            ]
            # Linked without libraries: the kernels run in the OpenMP threads of the runtime that
            # PyTorch has loaded. With a second runtime there would be more threads than cores.
            _run([compiler, "-shared", "-nostdlib", *map(str, compiled), "-o", str(library)])
            loaded = ctypes.CDLL(str(library))
        except (OSError, subprocess.SubprocessError) as error:
            output = getattr(error, "stderr", None) or str(error)
            logger.warning(
                "The kernels for this CPU cannot be compiled, so PyTorch's operations are used "
                "instead, which take longer. Install a C++ compiler (g++). The reason: %s",
                output.strip(),
            )
            return {}
    kernels = {}
    for name, arguments in _ARGUMENTS.items():
        for dtype, kind in _TYPES.items():
            kernel = getattr(loaded, f"{name}_{kind}")
            kernel.argtypes, kernel.restype = arguments, None
            kernels[name, dtype] = kernel
    return kernels


def _compile(compiler: str, source: Path, folder: Path) -> Path:
    compiled = folder / f"{source.stem}.o"
    _run([compiler, *_FLAGS.split(), "-c", str(source), "-o", str(compiled)])
    return compiled


def _run(command: list[str]) -> None:
    subprocess.run(command, check=True, capture_output=True, text=True, timeout=_SECONDS)
