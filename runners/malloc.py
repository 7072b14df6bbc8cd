"""Makes glibc return freed memory to the system. Does nothing on other systems than Linux."""

import ctypes
import sys

_M_ARENA_MAX = -8
"""From glibc's malloc.h."""


def share_one_arena() -> None:
    """Use a single heap for all threads. By default each has its own, and keeps what it freed."""
    if sys.platform == "linux":
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 1)


def trim() -> None:
    """Return the memory that glibc keeps after it was freed."""
    if sys.platform == "linux":
        ctypes.CDLL(None).malloc_trim(0)
