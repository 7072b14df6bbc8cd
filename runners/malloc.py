"""Sets how glibc keeps memory that was freed. Does nothing on other systems than Linux."""

import ctypes
import sys

from common.units import MIB

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8
"""From glibc's malloc.h."""


def keep_freed_memory() -> None:
    """Have the tensors of later operations use the memory of earlier ones, in whatever thread.

    By default each thread has a heap of its own, and tensors of several MiB are mapped anew each
    time until glibc has seen larger ones: making an image's patches then takes ten times as long,
    as the system clears each page. The thresholds are those that glibc would reach by itself.
    """
    if sys.platform == "linux":
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_ARENA_MAX, 1)
        libc.mallopt(_M_MMAP_THRESHOLD, 32 * MIB)
        libc.mallopt(_M_TRIM_THRESHOLD, 64 * MIB)


def return_freed_memory() -> None:
    """Have every large piece of memory go back to the system as soon as it is freed.

    By default glibc keeps such pieces once it has seen larger ones, and small ones that lie between
    them keep them from being used again.
    """
    if sys.platform == "linux":
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_ARENA_MAX, 1)
        libc.mallopt(_M_MMAP_THRESHOLD, MIB)


def trim() -> None:
    """Return the memory that glibc keeps after it was freed."""
    if sys.platform == "linux":
        ctypes.CDLL(None).malloc_trim(0)
