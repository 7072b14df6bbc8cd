"""The rule for `CHATVLM_DTYPE=auto`. Imports no torch."""

from common import devices
from settings import Settings


def is_float32(settings: Settings, on_gpu: bool) -> bool:
    """Returns whether a model computes in float32; otherwise its numbers have 16 bits.

    on_gpu: whether the model is placed on a GPU.
    """
    if settings.dtype == "auto":
        return not on_gpu and not devices.cpu_is_fast_in_bfloat16()
    return settings.dtype == "float32"
