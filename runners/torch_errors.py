"""What PyTorch's errors say of memory and of the device."""

import os

import torch

from common.failures import ErrorCode, Refusal

_OUT_OF_MEMORY = ("can't allocate memory", "CUDA error: out of memory", "_ALLOC_FAILED")
"""The CPU's allocator, the driver, cuBLAS and cuDNN, none of which has a type for it."""


def is_out_of_memory(error: Exception) -> bool:
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or (
        isinstance(error, RuntimeError) and any(words in str(error) for words in _OUT_OF_MEMORY)
    )


def is_broken_device(error: Exception) -> bool:
    """Whether every further call of this process on the device will fail, as after an illegal
    access: https://docs.nvidia.com/cuda/cuda-runtime-api, cudaErrorIllegalAddress."""
    return isinstance(error, torch.AcceleratorError) and not is_out_of_memory(error)


def out_of_memory() -> Refusal:
    return Refusal(
        ErrorCode.OUT_OF_MEMORY,
        "The device ran out of memory: try again later, or send a smaller image.",
        retry_after=5,
    )


def end_process() -> None:
    """At once: the gateway sees it and answers for the requests; BentoML starts another."""
    os._exit(1)
