"""`benchmarks.memory` prints what the README says of a runner's memory."""

import os
import subprocess
import sys

from tests.end_to_end.server import ROOT


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
    for row in rows:
        before, serving, after, ratio = (float(cell) for cell in row.strip("|").split("|"))
        assert serving > 1.5 * before
        assert ratio < 1.15, f"{after} MiB of {serving} are left"
