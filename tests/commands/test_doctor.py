"""What `chatvlm-server doctor` says of machines that are as each test wants them."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import huggingface_hub
import pytest

from commands.doctor import doctor
from common.devices import Memory
from common.units import GIB
from runners.checkpoints.shape import ANSWER
from settings import Settings
from tests.support.models.checkpoints import make_checkpoint
from tests.support.server import ROOT

MODEL = "qwen3_vl_2b"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    return make_checkpoint(MODEL, tmp_path_factory.mktemp("made") / MODEL)


@pytest.fixture
def weights(checkpoint, tmp_path) -> Path:
    """A folder of weights that the test may break."""
    shutil.copytree(checkpoint, tmp_path / "weights" / MODEL)
    return tmp_path / "weights"


@pytest.fixture(autouse=True)
def machine(tmp_path, monkeypatch):
    """Without a GPU, an empty cache of the hub, which cannot be reached, and Tesseract's data."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr("common.devices.gpu_name", lambda: None)
    monkeypatch.setattr("common.devices.gpu_memory", lambda numbers: None)
    monkeypatch.setattr("common.devices.cpu_is_fast_in_bfloat16", lambda: True)
    monkeypatch.setattr("common.devices.cpu_memory", lambda: Memory(8 * GIB, 16 * GIB))
    for name in [name for name in os.environ if name.startswith("CHATVLM_")]:
        monkeypatch.delenv(name)
    data = tmp_path / "tessdata"
    data.mkdir()
    (data / "rus.traineddata").touch()
    monkeypatch.setenv("TESSDATA_PREFIX", str(data))


@pytest.fixture
def report(capsys):
    """Runs it, and returns its exit code, its lines by their subject, and its last line."""

    def report(environment=(), **settings):
        code = doctor(Settings(**settings), environment)
        *lines, empty, last = capsys.readouterr().out.splitlines()
        assert empty == ""
        by_subject = {}
        for line in lines:
            subject, _, text = line[5:].partition(" ")
            by_subject.setdefault(subject, (line[:4].strip(), text.strip()))
        return code, by_subject, last

    return report


def test_a_machine_on_which_all_is_well_ends_with_0(report, weights):
    code, lines, last = report(weights=weights)
    assert (code, last) == (0, "Nothing to mend.")
    assert lines["settings"][0] == "ok"
    assert lines["GPU"] == ("ok", "none: vision-language models run on the CPU")
    assert lines["CPU"] == ("ok", "8.0 of 16.0 GiB free, models compute in 16 bits")
    assert lines[MODEL][1].startswith("weights whole, 0.0 GiB, ")
    assert lines["Tesseract"][0] == "ok"
    assert "reader" not in lines


def test_pages_at_once_follow_from_the_memory_and_the_shape(report, weights):
    def pages(**settings) -> int:
        _, lines, _ = report(weights=weights, **settings)
        return int(lines[MODEL][1].split()[-4])

    config = json.loads((weights / MODEL / "config.json").read_text())["text_config"]
    token = 2 * 2 * config["num_hidden_layers"] * config["num_key_value_heads"] * config["head_dim"]
    a_page = (1_003_520 // 32**2 + ANSWER) * token
    assert pages(kv_budget_gib=1) == GIB // a_page
    assert pages() == pytest.approx(0.6 * 8 * GIB / a_page, rel=0.01)
    assert pages(kv_budget_gib=1, max_pixels=200_000) > pages(kv_budget_gib=1)
    assert pages(kv_budget_gib=1, dtype="float32") == GIB // (2 * a_page)


def test_weights_that_are_not_here_are_no_fault_unless_the_model_is_named(report):
    code, lines, _ = report()
    assert code == 0
    assert lines[MODEL] == ("-", "weights not here")
    for named in ({"models": (MODEL,)}, {"preload": (MODEL,)}, {"default_model": MODEL}):
        code, lines, last = report(**named)
        assert code == 1
        assert last.startswith("Mend first: The weights of Qwen3-VL 2B are not here, and ")


def test_weights_that_can_be_fetched_are_shown_with_the_command(report, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    code, lines, _ = report(models=(MODEL,))
    assert code == 0
    assert lines[MODEL][1] == f"weights not here; fetch them: chatvlm-server pull {MODEL}"


def test_broken_weights_are_to_be_mended(report, weights):
    (weights / MODEL / "model.safetensors").write_bytes(b"")
    code, lines, last = report(weights=weights)
    assert (code, lines[MODEL]) == (1, ("MEND", "weights cannot be loaded"))
    assert last.startswith(
        "Mend first: The weights of Qwen3-VL 2B are incomplete: model.safetensors is cut off"
    )


def test_a_half_fetched_model_is_to_be_pulled_again(report, checkpoint, tmp_path, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    repository = tmp_path / "hub" / "models--Qwen--Qwen3-VL-2B-Instruct"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("c0ffee")
    folder = shutil.copytree(checkpoint, repository / "snapshots" / "c0ffee")
    (folder / "model.safetensors").unlink()
    code, lines, last = report()
    assert (code, lines[MODEL]) == (1, ("MEND", "weights incomplete"))
    assert last.endswith(f"is missing. Run chatvlm-server pull {MODEL}.")


def test_a_package_that_quantised_weights_need_is_to_be_installed(report, weights):
    file = weights / MODEL / "config.json"
    quantised = {"quantization_config": {"quant_method": "gptq"}}
    file.write_text(json.dumps(json.loads(file.read_text()) | quantised))
    code, _, last = report(weights=weights)
    assert code == 1
    assert last.endswith("pip install optimum gptqmodel.")


@pytest.mark.parametrize(
    ("memory", "code", "said"),
    [
        (Memory(1000, 2000), 1, "does not fit"),
        (Memory(1000, GIB), 0, "fits once other memory of its device is free"),
    ],
)
def test_a_model_that_does_not_fit_is_told_so(report, weights, monkeypatch, memory, code, said):
    monkeypatch.setattr("common.devices.cpu_memory", lambda: memory)
    ended, lines, last = report(weights=weights)
    assert ended == code
    assert lines[MODEL][1].endswith(said)
    assert ("set CHATVLM_QUANTIZE, or leave it out" in last) == bool(code)


@pytest.fixture
def gpu(monkeypatch):
    """Two GPUs that the driver tells of."""
    monkeypatch.setattr("common.devices.gpu_name", lambda: "NVIDIA L4")
    monkeypatch.setattr("common.devices.gpu_capability", lambda: (8, 9))
    monkeypatch.setattr("common.devices.driver_version", lambda: "580.65")

    def memory(numbers):
        return Memory(20 * GIB, 24 * GIB) if max(numbers) < 2 else None

    monkeypatch.setattr("common.devices.gpu_memory", memory)


def test_a_gpu_is_told_with_its_driver_and_memory(report, gpu, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    code, lines, _ = report()
    assert code == 0
    assert lines["GPU"] == (
        "ok",
        "NVIDIA L4, capability 8.9, driver 580.65, 20.0 of 24.0 GiB free, 20.0 of 24.0 GiB free",
    )


def test_a_gpu_that_pytorch_cannot_use_is_to_be_mended(report, gpu, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    code, lines, last = report()
    assert (code, lines["GPU"][0]) == (1, "MEND")
    assert "cannot use the GPU: install a build for CUDA" in last


def test_tesseract_s_data_is_looked_for(report, tmp_path):
    (tmp_path / "empty").mkdir()
    code, lines, last = report(tessdata=tmp_path / "empty")
    assert (code, lines["Tesseract"]) == (1, ("MEND", "data missing"))
    assert last.startswith("Mend first: The reader's trained data is missing: ")


def test_settings_that_can_hardly_be_meant_come_first(report, tmp_path):
    code, _, last = report(["CHATVLM_MODLES"], tessdata=tmp_path / "none")
    assert code == 1
    assert last.startswith("Mend first: CHATVLM_MODLES is not a setting")


def test_it_runs_as_a_command(weights):
    run = subprocess.run(
        [sys.executable, "-m", "commands", "doctor"],
        cwd=ROOT,
        env=os.environ | {"CHATVLM_WEIGHTS": str(weights), "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert f"ok   {MODEL}" in run.stdout
    assert run.stdout.endswith("Nothing to mend.\n")
