import re
import subprocess
import sys
from contextlib import suppress

import psutil
import pytest
import torch

from runners.decoder.cpu_kernels import compiling
from runners.decoder.cpu_kernels.compiling import find_kernel
from tests.support.models.compiler import compile_anew, needs_compiler
from tests.support.server import ROOT

NAMES = ["attend", "norm", "turn", "gate"]
WITHOUT = "PyTorch's operations are used"


@needs_compiler
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", NAMES)
def test_every_kernel_is_compiled(name, dtype):
    assert find_kernel(name, dtype)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64])
def test_nothing_is_compiled_for_a_data_type_that_has_no_kernels(dtype, monkeypatch, caplog):
    compile_anew(monkeypatch, "no-such-compiler")
    assert find_kernel("norm", dtype) is None
    assert not caplog.records


@pytest.mark.parametrize(
    ("compiler", "reason"),
    [
        ("/nowhere/c++", "No such file or directory: '/nowhere/c++'"),
        ("sh -c 'echo the compiler is broken >&2; exit 1'", "the compiler is broken"),
        ("false", "returned non-zero exit status 1"),
        ("true", "kernels.so"),
        ("sleep 60 #", "timed out after 0.2 seconds"),
        ("'c++", "No closing quotation"),
        pytest.param("c++ -fvisibility=hidden", "undefined symbol", marks=needs_compiler),
    ],
)
def test_without_a_compiler_one_warning_says_what_to_do(compiler, reason, monkeypatch, caplog):
    if compiler.startswith("sleep"):
        compiler = f"sh -c '{compiler}'"
        monkeypatch.setattr(compiling, "_SECONDS", 0.2)
    compile_anew(monkeypatch, compiler)
    assert [find_kernel(name, torch.float32) for name in NAMES] == [None] * len(NAMES)
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    for part in (WITHOUT, "C++ compiler (g++)", reason):
        assert part in record.getMessage()


def test_of_a_compiler_that_says_much_the_log_has_the_beginning(monkeypatch, caplog):
    compile_anew(monkeypatch, "sh -c 'yes the first error | head -c 3000000 >&2; exit 1'")
    assert find_kernel("norm", torch.float32) is None
    assert "the first error" in caplog.text
    assert len(caplog.text) < 10_000


def test_a_compiler_that_hangs_is_ended_with_the_processes_that_it_began(
    monkeypatch, tmp_path, caplog
):
    began = tmp_path / "began"
    compile_anew(monkeypatch, f"sh -c 'sleep 300 & echo $! > {began}; wait'")
    monkeypatch.setattr(compiling, "_SECONDS", 1)
    assert find_kernel("norm", torch.float32) is None
    assert "timed out" in caplog.text
    with suppress(psutil.NoSuchProcess):
        sleep = psutil.Process(int(began.read_text()))
        assert sleep.status() == psutil.STATUS_ZOMBIE or sleep.wait(10) is None


def test_a_folder_that_cannot_be_written_to_is_no_error(monkeypatch, caplog):
    compile_anew(monkeypatch, "c++")
    monkeypatch.setattr(compiling.tempfile, "tempdir", "/nowhere")
    assert find_kernel("norm", torch.float32) is None
    assert WITHOUT in caplog.text


@needs_compiler
def test_a_compiler_may_have_arguments(monkeypatch):
    compile_anew(monkeypatch, f"{compiling.os.environ.get('CXX') or 'c++'} -g0")
    assert find_kernel("norm", torch.float32)


@needs_compiler
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux lists the libraries of a process")
def test_the_kernels_run_in_pytorchs_own_openmp_threads():
    """With a runtime of their own there would be more threads than cores."""
    program = """
import os, pathlib, torch
from runners.decoder.cpu_kernels.compiling import find_kernel
torch.set_num_threads(3)
rows = torch.randn(512, 512)
rows.relu()
threads = len(os.listdir("/proc/self/task"))
norm, result = find_kernel("norm", torch.float32), torch.empty_like(rows)
for _ in range(10):
    norm(rows.data_ptr(), rows.data_ptr(), result.data_ptr(), 512, 512, 1e-6)
print(len(os.listdir("/proc/self/task")) - threads)
print(pathlib.Path("/proc/self/maps").read_text())
"""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    more, maps = done.stdout.split("\n", 1)
    assert more == "0"
    runtimes = set(re.findall(r"/\S*/lib[gi]?omp\S*", maps))
    assert len(runtimes) <= 1, runtimes
