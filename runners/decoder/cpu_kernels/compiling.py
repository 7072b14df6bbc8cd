"""Compiles the kernels and loads them."""

import ctypes
import logging
import os
import shlex
import signal
import subprocess
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path

import torch

logger = logging.getLogger(__name__)

Kernel = Callable[..., None]

_SOURCES = sorted(Path(__file__).parent.glob("*.cpp"))
_FLAGS = ["-O3", "-march=native", "-fno-math-errno", "-fno-exceptions", "-fopenmp", "-fPIC"]
_SECONDS = 120
"""How long a command of the compiler may take. Both take about two on an idle machine."""
_MOST_SAID = 4000
"""Characters of what a compiler said that go into the log: its first errors."""
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
    return _kernels().get((name, dtype)) if dtype in _TYPES else None


@cache
def _kernels() -> dict[tuple[str, torch.dtype], Kernel]:
    """Compiles all kernels for the CPU at hand. There are none where that fails."""
    try:
        with tempfile.TemporaryDirectory(prefix="chatvlm-") as folder:
            return _kernels_of(ctypes.CDLL(str(_compile(Path(folder)))))
    except (OSError, ValueError, AttributeError, subprocess.SubprocessError) as error:
        output = error.stderr if isinstance(error, subprocess.CalledProcessError) else ""
        logger.warning(
            "The kernels for this CPU cannot be compiled or loaded, so PyTorch's operations are "
            "used instead, which take longer. The kernels need a C++ compiler (g++), and a "
            "temporary folder from which programs may be run. The reason: %s",
            output.strip()[:_MOST_SAID] or error,
        )
        return {}


def _kernels_of(loaded: ctypes.CDLL) -> dict[tuple[str, torch.dtype], Kernel]:
    """The kernels of a library. Raises `AttributeError` if it lacks one."""
    kernels = {}
    for name, arguments in _ARGUMENTS.items():
        for dtype, kind in _TYPES.items():
            kernel = getattr(loaded, f"{name}_{kind}")
            kernel.argtypes, kernel.restype = arguments, None
            kernels[name, dtype] = kernel
    return kernels


def _compile(folder: Path) -> Path:
    """Makes a library in a folder, with `c++` or the compiler that CXX names."""
    compiler = shlex.split(os.environ.get("CXX") or "c++")
    _run([*compiler, *_FLAGS, "-c", *map(str, _SOURCES)], folder)
    # Linked without libraries: the kernels run in the OpenMP threads of the runtime that PyTorch
    # has loaded. With a second runtime there would be more threads than cores.
    compiled = [f"{source.stem}.o" for source in _SOURCES]
    _run([*compiler, "-shared", "-nostdlib", *compiled, "-o", "kernels.so"], folder)
    return folder / "kernels.so"


def _run(command: list[str], folder: Path) -> None:
    with subprocess.Popen(
        command,
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        start_new_session=True,
    ) as process:
        try:
            _, said = process.communicate(timeout=_SECONDS)
        except subprocess.TimeoutExpired:
            # With the processes that it began: a compiler is a driver that starts others.
            os.killpg(process.pid, signal.SIGKILL)
            raise
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command, stderr=said)
