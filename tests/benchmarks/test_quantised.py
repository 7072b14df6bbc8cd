import os
import subprocess
import sys

from tests.support.markdown import table_rows
from tests.support.models.checkpoints import make_checkpoint
from tests.support.server import ROOT


def test_it_prints_a_row_for_each_way_in_which_int4_takes_the_least_memory(tmp_path):
    make_checkpoint("qwen3_vl_2b", tmp_path / "qwen3_vl_2b")
    run = subprocess.run(
        [sys.executable, "-m", "benchmarks.quantised", "--weights", str(tmp_path)],
        cwd=ROOT,
        env=os.environ | {"HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert run.returncode == 0, run.stderr
    rows = {row[0]: row[1:] for row in table_rows(run.stdout)}
    assert list(rows) == ["bfloat16", "int8", "int4"]
    _, error, equal, *times = rows["bfloat16"]
    assert (error, equal) == ("0.0%", "100%")
    assert all(float(time) > 0 for row in rows.values() for time in row[3:])
    assert len(times) == 3
    errors = [float(row[1].rstrip("%")) for row in rows.values()]
    assert errors == sorted(errors)
    assert errors[1] > 0
    assert "MatMul8bitLt" not in run.stderr
