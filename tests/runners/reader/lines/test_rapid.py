import subprocess
import sys

PROGRAM = """
import os, sys
forked = []
os.register_at_fork(before=lambda: forked.append(True))
from runners.reader.lines.rapid import load_detector
load_detector()
assert "openvino" in sys.modules
assert not forked, "a process was forked"
assert sys.modules["openvino_telemetry"] is None
"""


def test_loading_a_model_tells_nobody_and_forks_no_process():
    subprocess.run([sys.executable, "-c", PROGRAM], check=True, timeout=120)
