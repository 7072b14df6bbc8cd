import subprocess
import sys

from runners.reader.lines.rapid import load_detector, load_recogniser

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


def test_models_run_on_any_core() -> None:
    """Pinned, each process of the reader would compute on the same core."""
    for wrapper in (load_detector(), load_recogniser()):
        model = wrapper.session.session.get_compiled_model()
        assert not model.get_property("ENABLE_CPU_PINNING")
        assert model.get_property("INFERENCE_NUM_THREADS") == 1
