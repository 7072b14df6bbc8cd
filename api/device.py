"""The GPU as the driver sees it, without torch."""

import pynvml


def gpu_name() -> str | None:
    """Name of GPU 0, None where there is none that CUDA could use."""
    try:
        pynvml.nvmlInit()
        try:
            name = pynvml.nvmlDeviceGetName(pynvml.nvmlDeviceGetHandleByIndex(0))
        finally:
            pynvml.nvmlShutdown()
    except pynvml.NVMLError:
        return None
    return name.decode() if isinstance(name, bytes) else str(name)
