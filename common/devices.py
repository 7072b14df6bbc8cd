"""Tells the GPUs and the memory of this machine, as driver and kernel report them. No torch."""

import os
import re
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]
import pynvml

_CGROUP = Path("/sys/fs/cgroup")
_CPUINFO = Path("/proc/cpuinfo")


@dataclass(frozen=True)
class Memory:
    """Free and total memory, in bytes."""

    free: int
    total: int


def gpu_name() -> str | None:
    """Returns the name of GPU 0, as CUDA counts them; None if there is none, or if it fails."""
    try:
        with _driver() as gpus:
            return str(pynvml.nvmlDeviceGetName(gpus[0])) if gpus else None
    except pynvml.NVMLError:
        return None


def driver_version() -> str | None:
    """Returns the version of the GPUs' driver; None if there is none, or if it fails."""
    try:
        with _driver():
            return str(pynvml.nvmlSystemGetDriverVersion())
    except pynvml.NVMLError:
        return None


def gpu_capability() -> tuple[int, int] | None:
    """Returns the compute capability of GPU 0; None if there is none, or if the driver fails."""
    try:
        with _driver() as gpus:
            if not gpus:
                return None
            major, minor = pynvml.nvmlDeviceGetCudaComputeCapability(gpus[0])
    except pynvml.NVMLError:
        return None
    return int(major), int(minor)


def gpu_memory(numbers: Sequence[int]) -> Memory | None:
    """Returns the memory of these GPUs together, by CUDA's numbers; None if one is not there."""
    try:
        with _driver() as gpus:
            if not numbers or max(numbers) >= len(gpus):
                return None
            infos = [pynvml.nvmlDeviceGetMemoryInfo(gpus[number]) for number in numbers]
    except pynvml.NVMLError:
        return None
    return Memory(sum(info.free for info in infos), sum(info.total for info in infos))


def cpu_memory() -> Memory:
    """Returns the memory of the machine, or of this process's container if that has a limit.

    Only limits of cgroup v2 are seen.
    """
    machine = psutil.virtual_memory()
    try:
        limit = int((_CGROUP / "memory.max").read_text())
        lines = (_CGROUP / "memory.stat").read_text().splitlines()
    except (OSError, ValueError):  # no limit
        return Memory(machine.available, machine.total)
    used = dict(line.split() for line in lines)
    return Memory(min(machine.available, limit - int(used["anon"])), min(machine.total, limit))


def cpu_is_fast_in_bfloat16() -> bool:
    """Returns whether the CPU has instructions for products in bfloat16.

    Without them such products are computed in float32, with conversions on top. Only Linux tells;
    elsewhere the answer is False.
    """
    try:
        return bool(re.search(r"\b(amx_bf16|avx512_bf16|bf16)\b", _CPUINFO.read_text()))
    except OSError:
        return False


def placement(gpus: Sequence[int]) -> tuple[tuple[str, ...], Memory]:
    """Returns the devices that a model runs on, as "host/gpu0" or "host/cpu", and their memory.

    gpus: numbers of the GPUs that the model is for. If one of them is missing, it is the CPU.
    """
    host = socket.gethostname()
    memory = gpu_memory(gpus)
    if memory is None:
        return (f"{host}/cpu",), cpu_memory()
    return tuple(f"{host}/gpu{number}" for number in gpus), memory


@contextmanager
def _driver() -> Iterator[list[Any]]:
    """Opens the driver. Gives the handles of the GPUs that CUDA may use, in CUDA's order.

    Raises `NVMLError` if there is no driver, or one that fails.
    """
    pynvml.nvmlInit()
    try:
        yield _visible_gpus()
    finally:
        with suppress(pynvml.NVMLError):
            pynvml.nvmlShutdown()


def _visible_gpus() -> list[Any]:
    """Returns the handles of the GPUs that CUDA_VISIBLE_DEVICES allows, up to the first that fails.

    The variable holds numbers or UUIDs, by commas; the first that does not exist hides the rest:
    https://docs.nvidia.com/cuda/cuda-programming-guide.
    """
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = map(str, range(pynvml.nvmlDeviceGetCount())) if visible is None else visible.split(",")
    handles: list[Any] = []
    for name in (name.strip() for name in names):
        try:
            handles.append(
                pynvml.nvmlDeviceGetHandleByIndex(int(name))
                if name.isdecimal()
                else pynvml.nvmlDeviceGetHandleByUUID(name)
            )
        except pynvml.NVMLError:
            break
    return handles
