"""The check of a GPU, on a machine that need not have one."""

import subprocess
import sys

import pytest

from benchmarks import gpu
from tests.support.server import ROOT


def test_it_runs_on_small_models_without_a_gpu() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.gpu", "--tiny"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1].startswith("5 parts passed, 0 failed")
    for family in gpu.FAMILIES:
        assert f"{family} on cpu: equal" in done.stdout or "on cuda" in done.stdout


def test_without_a_gpu_it_says_so_and_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "CUDA", False)
    monkeypatch.setattr(sys, "argv", ["gpu"])
    with pytest.raises(SystemExit, match="PyTorch sees no GPU here"):
        gpu.main()


def test_a_part_that_fails_is_told_and_the_next_one_goes_on(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fails() -> None:
        raise ZeroDivisionError("no bandwidth")

    assert [gpu.passes("one", fails), gpu.passes("two", lambda: None)] == [False, True]
    assert "no bandwidth" in capsys.readouterr().err
