import json
import os
import subprocess
import sys
from pathlib import Path

import jiwer
import pytest

from tests.support.models.checkpoints import make_checkpoint
from tests.support.pages import ENGLISH, encode, render
from tests.support.server import ROOT

SAYS = "The quick brown fox jumps over a lazy dog"


def verify(weights: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "benchmarks.verify_models", "qwen3_vl_2b", *arguments],
        cwd=ROOT,
        env={**os.environ, "CHATVLM_WEIGHTS": str(weights), "HF_HUB_OFFLINE": "1"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.fixture(scope="module")
def printed(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Of a model that answers `SAYS` to everything."""
    weights, samples = tmp_path_factory.mktemp("weights"), tmp_path_factory.mktemp("samples")
    make_checkpoint("qwen3_vl_2b", weights / "qwen3_vl_2b", says=SAYS)
    for name in ("said.png", "fox.png"):
        (samples / name).write_bytes(encode(render([SAYS])))
    (samples / "said.gold.txt").write_text(f"{SAYS}\n")
    (samples / "phrases.json").write_text(json.dumps({"fox.png": ["fox jumps", "busy dog"]}))
    run = verify(weights, "--samples", str(samples))
    assert run.returncode == 0, run.stderr
    return run.stdout


def row(printed: str, page: str) -> list[str]:
    """The cells of a page's row."""
    (line,) = [line for line in printed.splitlines() if line.startswith(f"| {page} |")]
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_a_page_is_scored_by_the_characters_that_are_wrong(printed: str) -> None:
    wrong = jiwer.cer(" ".join(ENGLISH), SAYS)
    assert wrong > 0.5
    assert row(printed, "en, clean")[1] == f"{wrong:.2%} of characters wrong"
    assert row(printed, "said.png")[1] == "0.00% of characters wrong"


def test_a_page_of_known_phrases_is_scored_by_those_found(printed: str) -> None:
    assert row(printed, "fox.png")[1] == "1 of 2 phrases"


def test_tokens_and_memory_are_those_of_the_run(printed: str) -> None:
    _, _, tokens, first_text, rate = row(printed, "said.png")
    assert int(tokens) == len(SAYS.split())
    assert float(first_text) >= 0
    assert float(rate) > 0
    memory = printed.splitlines()[-1].split()
    idle, peak = float(memory[1]), float(memory[5])
    assert 0 < idle < peak


def test_missing_weights_are_told_in_a_sentence(tmp_path: Path) -> None:
    run = verify(tmp_path)
    assert run.returncode == 1
    assert "Qwen/Qwen3-VL-2B-Instruct" in run.stderr
    assert "Traceback" not in run.stderr
