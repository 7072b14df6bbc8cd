"""Tells from PyTorch's errors whether memory ran out or the device is broken."""

import os

import torch

from common.failures import ErrorCode, Refusal

_OUT_OF_MEMORY = ("can't allocate memory", "CUDA error: out of memory", "_ALLOC_FAILED")
"""Words of the CPU's allocator, the driver, cuBLAS and cuDNN, which raise no type of their own."""


def is_out_of_memory(error: Exception) -> bool:
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or (
        isinstance(error, RuntimeError) and any(words in str(error) for words in _OUT_OF_MEMORY)
    )


def is_broken_device(error: Exception) -> bool:
    """Whether all further calls of this process on the device will fail, as after a bad access.

    See cudaErrorIllegalAddress in https://docs.nvidia.com/cuda/cuda-runtime-api.
    """
    return isinstance(error, torch.AcceleratorError) and not is_out_of_memory(error)


def out_of_memory_refusal() -> Refusal:
    return Refusal(
        ErrorCode.OUT_OF_MEMORY,
        "The device ran out of memory: try again later, or send a smaller image.",
        retry_after=5,
    )


def end_process() -> None:
    """End this process at once. The gateway answers its requests, BentoML starts a new process."""
    os._exit(1)
