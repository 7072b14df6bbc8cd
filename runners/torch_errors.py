"""Recognises errors of PyTorch: memory that ran out, and a device that is broken for good."""

import torch

_OUT_OF_MEMORY = ("can't allocate memory", "CUDA error: out of memory", "_ALLOC_FAILED")
"""Words of the CPU's allocator, the driver, cuBLAS and cuDNN, which raise no type of their own."""


def is_out_of_memory(error: Exception) -> bool:
    """Returns whether the memory of the device or of the process ran out."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or (
        isinstance(error, RuntimeError) and any(words in str(error) for words in _OUT_OF_MEMORY)
    )


def is_broken_device(error: Exception) -> bool:
    """Returns whether all further calls of this process on the device will fail.

    See cudaErrorIllegalAddress in https://docs.nvidia.com/cuda/cuda-runtime-api.
    """
    is_harmless = is_out_of_memory(error) or is_capture_failure(error)
    return isinstance(error, torch.AcceleratorError) and not is_harmless


def is_capture_failure(error: Exception) -> bool:
    """Returns whether an operation was refused because a CUDA graph was being captured."""
    return isinstance(error, RuntimeError) and "captur" in str(error)
