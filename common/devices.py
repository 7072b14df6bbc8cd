"""The devices of this machine and their memory, as the driver and the kernel see them: no torch."""

import os
import re
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]
import pynvml

_CGROUP = Path("/sys/fs/cgroup")
_CPUINFO = Path("/proc/cpuinfo")


@dataclass(frozen=True)
class Memory:
    """Bytes."""

    free: int
    total: int


def gpu_name() -> str | None:
    """Of GPU 0, as CUDA counts them; None where there is none."""
    with _Driver() as gpus:
        return str(pynvml.nvmlDeviceGetName(gpus[0])) if gpus else None


def gpu_memory(numbers: Sequence[int]) -> Memory | None:
    """Of these GPUs together, as CUDA counts them; None where one of them is not there."""
    with _Driver() as gpus:
        if not numbers or max(numbers) >= len(gpus):
            return None
        infos = [pynvml.nvmlDeviceGetMemoryInfo(gpus[number]) for number in numbers]
    return Memory(sum(info.free for info in infos), sum(info.total for info in infos))


def cpu_memory() -> Memory:
    """Of the machine, or of the container that this process is confined to (cgroup v2)."""
    machine = psutil.virtual_memory()
    try:
        limit = int((_CGROUP / "memory.max").read_text())
        lines = (_CGROUP / "memory.stat").read_text().splitlines()
    except (OSError, ValueError):  # not confined
        return Memory(machine.available, machine.total)
    used = dict(line.split() for line in lines)
    return Memory(min(machine.available, limit - int(used["anon"])), min(machine.total, limit))


def cpu_is_fast_in_bfloat16() -> bool:
    """Whether it has instructions for such products: without them they are computed as float32,
    with conversions on top. Linux says so; elsewhere it counts as slow."""
    try:
        return bool(re.search(r"\b(amx_bf16|avx512_bf16|bf16)\b", _CPUINFO.read_text()))
    except OSError:
        return False


def placement(gpus: Sequence[int] | None) -> tuple[tuple[str, ...], Memory]:
    """Names of the memories that a model placed on `gpus` lives in, and how they stand.

    gpus: None is GPU 0 where there is one, else the CPU.
    """
    host = socket.gethostname()
    numbers = (0,) if gpus is None else tuple(gpus)
    memory = gpu_memory(numbers)
    if memory is None:
        return (f"{host}/cpu",), cpu_memory()
    return tuple(f"{host}/gpu{number}" for number in numbers), memory


class _Driver:
    """The handles of the GPUs that CUDA may use, in its order, while the driver is open."""

    def __enter__(self) -> list[Any]:
        self._opened = False
        try:
            pynvml.nvmlInit()
            self._opened = True
            return self._handles()
        except pynvml.NVMLError:  # no driver, or one in trouble: no GPU that could be used
            return []

    def __exit__(self, *exception: object) -> None:
        if self._opened:
            pynvml.nvmlShutdown()

    def _handles(self) -> list[Any]:
        """https://docs.nvidia.com/cuda/cuda-programming-guide, CUDA_VISIBLE_DEVICES: numbers or
        UUIDs, by commas; the first that is not there hides the rest."""
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        if visible is None:
            count = pynvml.nvmlDeviceGetCount()
            return [pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(count)]
        handles = []
        for name in (part.strip() for part in visible.split(",")):
            try:
                handles.append(
                    pynvml.nvmlDeviceGetHandleByIndex(int(name))
                    if name.isdecimal()
                    else pynvml.nvmlDeviceGetHandleByUUID(name)
                )
            except pynvml.NVMLError:
                break
        return handles
