"""Tests that need the kernels for CPUs, and tests that go without."""

import functools
import os
import shlex
import shutil

import pytest

from runners.decoder.cpu_kernels import compiling

needs_compiler = pytest.mark.skipif(
    shutil.which(shlex.split(os.environ.get("CXX") or "c++")[0]) is None,
    reason="there is no C++ compiler here, with which the kernels for CPUs are compiled",
)


def compile_anew(monkeypatch: pytest.MonkeyPatch, compiler: str) -> None:
    """Lets the kernels be compiled once more, with another compiler, until the test ends."""
    monkeypatch.setenv("CXX", compiler)
    monkeypatch.setattr(compiling, "_kernels", functools.cache(compiling._kernels.__wrapped__))
