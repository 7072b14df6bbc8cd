"""In processes of their own, because PyTorch's number of threads belongs to the whole process."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SETUP = """
import threading
import torch
torch.set_num_threads(4)
from runners import torch_threads

def in_thread(choose):
    found = []
    def run():
        choose()
        torch.ones(10**6).sin()  # a parallel operation
        found.append(torch.get_num_threads())
    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return found[0]
"""


def printed(program: str, **environment: str) -> str:
    inherited = {name: value for name, value in os.environ.items() if name != "OMP_THREAD_LIMIT"}
    ran = subprocess.run(
        [sys.executable, "-c", SETUP + program],
        cwd=ROOT,
        env=inherited | environment,
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.strip()


def test_a_thread_has_all_cores_although_another_asked_for_one_before():
    program = "print(in_thread(torch_threads.use_one_core), in_thread(torch_threads.use_all_cores))"
    assert printed(program) == "1 4"


def test_a_thread_keeps_all_cores_when_another_asks_for_one_later():
    program = """
asked, done = threading.Event(), threading.Event()
def decode():
    torch_threads.use_all_cores()
    asked.set()
    done.wait()
    torch.ones(10**6).sin()
    print(torch.get_num_threads())
thread = threading.Thread(target=decode)
thread.start()
asked.wait()
in_thread(torch_threads.use_one_core)
done.set()
thread.join()
"""
    assert printed(program) == "4"


@pytest.mark.parametrize(("limit", "threads"), [("2", "2"), ("16", "4"), ("0", "4"), ("many", "4")])
def test_no_more_threads_are_asked_for_than_openmp_may_grant(limit, threads):
    assert (
        printed("print(in_thread(torch_threads.use_all_cores))", OMP_THREAD_LIMIT=limit) == threads
    )
