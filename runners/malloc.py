"""glibc's heap, so that memory which was freed goes back to the system."""

import ctypes
import sys

_M_ARENA_MAX = -8
"""From glibc's malloc.h."""


def share_one_arena() -> None:
    """By default each thread has an arena of its own, and each keeps pieces of what it freed."""
    if sys.platform == "linux":
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 1)


def trim() -> None:
    """glibc keeps freed memory for itself until it is told not to."""
    if sys.platform == "linux":
        ctypes.CDLL(None).malloc_trim(0)
