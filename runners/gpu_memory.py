"""Says how much memory of the GPUs this process takes, and how much it may still take."""

from collections.abc import Iterable

import torch


def allocated_on_gpus() -> int:
    """Bytes that this process has allocated on all GPUs."""
    return sum(map(torch.cuda.memory_allocated, range(torch.cuda.device_count())))


def free_on_gpus(numbers: Iterable[int]) -> int:
    """Bytes that a model spread evenly over these GPUs may still take."""
    free = [_free_on_gpu(number) for number in numbers]
    return len(free) * min(free)


def _free_on_gpu(number: int) -> int:
    """Bytes that are free on the GPU, or cached by the allocator of this process."""
    cached = torch.cuda.memory_reserved(number) - torch.cuda.memory_allocated(number)
    return torch.cuda.mem_get_info(number)[0] + cached
