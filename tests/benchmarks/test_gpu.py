"""The check of a GPU, on a machine that need not have one."""

import subprocess
import sys

import pytest

from benchmarks.gpu import __main__ as command
from benchmarks.gpu import exact, machine
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
    assert "it/s]" not in done.stderr  # no progress bars among the tables
    assert done.stdout.splitlines()[-1].startswith("9 parts passed, 0 failed: none")
    for family in exact.FAMILIES:
        (line,) = [line for line in done.stdout.splitlines() if line.startswith(f"| {family} |")]
        assert line.count("| equal in 8 of 8 rows ") == 2


def test_without_a_gpu_it_says_so_and_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "CUDA", False)
    monkeypatch.setattr(sys, "argv", ["gpu"])
    with pytest.raises(SystemExit, match="PyTorch sees no GPU here"):
        command.main()


def test_a_part_that_fails_says_why_in_a_sentence_and_the_next_one_goes_on(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def is_wrong() -> None:
        raise AssertionError("tokens differ from those of generate: got_ocr")

    def breaks() -> None:
        raise ZeroDivisionError("no bandwidth")

    parts = {"exact": is_wrong, "steps": breaks, "memory": lambda: None}
    assert [command.passes(*part) for part in parts.items()] == [False, False, True]
    said = capsys.readouterr()
    assert "FAILED: tokens differ from those of generate: got_ocr\n" in said.out
    assert "FAILED: steps ended with ZeroDivisionError: no bandwidth\n" in said.out
    assert "Traceback" in said.err


def test_a_part_that_failed_makes_the_exit_code_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["gpu", "--tiny"])
    monkeypatch.setattr(command, "passes", lambda name, part: name != "memory")
    with pytest.raises(SystemExit) as ended:
        command.main()
    assert ended.value.code == 1
