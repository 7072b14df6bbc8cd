"""`benchmarks.memory` prints what docs/figures.md says of a runner's memory."""

import os
import subprocess
import sys

from tests.support.server import ROOT


def test_an_unload_gives_the_memory_back_to_the_system() -> None:
    run = subprocess.run(
        [sys.executable, "-m", "benchmarks.memory"],
        cwd=ROOT,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert run.returncode == 0, run.stderr
    _, _, *rows = run.stdout.strip().splitlines()
    for number, row in enumerate(rows):
        before, serving, after, _ = (float(cell) for cell in row.strip("|").split("|"))
        assert serving > 1.5 * before
        # What the first load brings in for good: compiled kernels, code of the libraries.
        assert after < (1.15 if number else 1.25) * before, f"{after} of {serving} MiB are left"
