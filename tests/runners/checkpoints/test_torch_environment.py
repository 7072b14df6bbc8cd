"""What a runner's process has in its environment when it imports torch for the first time."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

VARIABLES = (
    "CUDA_DEVICE_ORDER",
    "PYTORCH_ALLOC_CONF",
    "PYTORCH_CUDA_ALLOC_CONF",
    "THP_MEM_ALLOC_ENABLE",
)
DEFAULTS = {
    "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
    "PYTORCH_ALLOC_CONF": "expandable_segments:True",
    "THP_MEM_ALLOC_ENABLE": "1",
}
LOAD = f"""
import asyncio, json, os, sys
from common.catalog import CATALOG
from runners.checkpoints import weights
from runners.vlm.engine import VlmEngine
from settings import Settings

class Finder:
    def find_spec(self, name, *_):
        if name == "torch":
            print(json.dumps({{name: os.environ.get(name) for name in {VARIABLES}}}))
            os._exit(0)

weights.why_unavailable = lambda entry, settings: None
sys.meta_path.insert(0, Finder())
asyncio.run(VlmEngine(CATALOG["got_ocr"], Settings(devices={{}})).load())
"""


@pytest.mark.parametrize(
    ("set_by_operator", "expected"),
    [
        ({}, DEFAULTS),
        ({"CUDA_DEVICE_ORDER": "FASTEST_FIRST"}, DEFAULTS | {"CUDA_DEVICE_ORDER": "FASTEST_FIRST"}),
        ({"THP_MEM_ALLOC_ENABLE": "0"}, DEFAULTS | {"THP_MEM_ALLOC_ENABLE": "0"}),
        (
            {"PYTORCH_ALLOC_CONF": "backend:native"},
            DEFAULTS | {"PYTORCH_ALLOC_CONF": "backend:native"},
        ),
        (
            {"PYTORCH_CUDA_ALLOC_CONF": "backend:native"},
            DEFAULTS | {"PYTORCH_ALLOC_CONF": None, "PYTORCH_CUDA_ALLOC_CONF": "backend:native"},
        ),
    ],
)
def test_torch_is_imported_with_defaults_that_an_operator_can_replace(set_by_operator, expected):
    inherited = {name: value for name, value in os.environ.items() if name not in VARIABLES}
    ran = subprocess.run(
        [sys.executable, "-c", LOAD],
        cwd=Path(__file__).parents[3],
        env=inherited | set_by_operator,
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout) == dict.fromkeys(VARIABLES) | expected
