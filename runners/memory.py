"""Memory that was freed, given back to the system."""

import ctypes
import sys


def trim() -> None:
    """glibc keeps freed memory for itself until it is told not to."""
    if sys.platform == "linux":
        ctypes.CDLL(None).malloc_trim(0)
