"""How many CPU threads PyTorch's operations take, in each of a runner's own threads.

A decode step consists of hundreds of short parallel operations. OpenMP's runtime (libgomp) keeps
the threads of an operation awake for the next one, but only as long as there are no more OpenMP
threads in the process than cores; with more it puts them to sleep, and waking them takes longer
than many an operation. Each thread that runs a parallel operation has OpenMP threads of its own
until it ends. So the decode loop takes all cores, and no other thread that lasts takes more than
one.
"""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

Result = TypeVar("Result")


def _limited(threads: int) -> int:
    """As many threads as OMP_THREAD_LIMIT grants.

    PyTorch does not read that variable, and oneDNN computes wrong results in bfloat16 if OpenMP
    grants fewer threads than PyTorch asks for. An operator may set it for the whole service. The
    embedded reader sets it too, but only in its own process.
    """
    limit = os.environ.get("OMP_THREAD_LIMIT", "")
    return min(threads, int(limit)) if limit.isdecimal() and int(limit) > 0 else threads


_ALL = _limited(torch.get_num_threads())
"""Read once: `torch.set_num_threads` also sets what threads begin with that start later."""


def in_own_thread(work: Callable[[], Result]) -> Result:
    """The result of some work, done in a thread that ends with it."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(work).result()


def use_all_cores() -> None:
    """For the thread of the decode loop, and for threads that end soon."""
    _use(_ALL)


def use_one_core() -> None:
    """For other threads."""
    _use(1)


def _use(threads: int) -> None:
    # A thread's first question makes it take over the number that any thread has set last. Later it
    # would do that at the first operation, and undo what is set here.
    torch.get_num_threads()
    torch.set_num_threads(threads)
