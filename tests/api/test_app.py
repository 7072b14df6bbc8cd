import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_importing_the_app_reads_no_setting():
    run = subprocess.run(
        [sys.executable, "-c", "import api.app"],
        cwd=ROOT,
        env={**os.environ, "CHATVLM_MAX_FILES": "many", "BENTOML_DO_NOT_TRACK": "True"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert run.returncode == 0, run.stderr
