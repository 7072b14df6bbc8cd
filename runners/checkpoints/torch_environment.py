"""Environment variables that PyTorch and CUDA read once, when they start. Imports no torch."""

import os


def set_torch_defaults() -> None:
    """Set what a model needs; a value that the operator has set stays.

    Has to be called before torch is imported for the first time.
    """
    # NVML, from which `common/devices.py` has the free memory, numbers GPUs by their PCI bus; CUDA
    # by itself numbers them by their speed.
    os.environ.setdefault("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
    # The KV cache grows and shrinks. With segments of a fixed size, the gaps that it leaves are too
    # small for the next one, and memory runs out while much of it is free.
    if "PYTORCH_CUDA_ALLOC_CONF" not in os.environ:  # the variable's older name, still read
        os.environ.setdefault("PYTORCH_ALLOC_CONF", "expandable_segments:True")
    # On a CPU, large pages for large tensors: weights and KV cache are read from end to end in
    # every step.
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
