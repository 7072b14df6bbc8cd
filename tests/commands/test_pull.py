"""`chatvlm-server pull`, as a process beside a small hub."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from common.catalog import CATALOG
from tests.support.hub import Hub
from tests.support.models.checkpoints import make_checkpoint
from tests.support.server import ROOT

ENTRY = CATALOG["qwen3_vl_2b"]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint(ENTRY.id, tmp_path_factory.mktemp("made") / ENTRY.id)


@pytest.fixture
def hub(checkpoint: Path) -> Iterator[Hub]:
    files = {file.name: file.read_bytes() for file in checkpoint.iterdir()}
    with Hub(files | {"pytorch_model.bin": b"the same weights once more"}) as hub:
        yield hub


@pytest.fixture
def pull(hub: Hub, tmp_path: Path):
    def pull(*arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("CHATVLM_", "HF_"))}
        own = {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "home")}
        return subprocess.run(
            [sys.executable, "-m", "commands", "pull", *arguments],
            cwd=ROOT,
            env=environment | own | settings,
            capture_output=True,
            text=True,
            timeout=120,
        )

    return pull


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if path.is_file()}


def test_weights_are_fetched_to_the_cache_and_checked(pull, checkpoint, tmp_path):
    run = pull(ENTRY.id)
    assert run.returncode == 0, run.stderr
    said = run.stdout.splitlines()
    assert said[0] == "Qwen3-VL 2B: fetching Qwen/Qwen3-VL-2B-Instruct"
    folder = Path(said[1].removeprefix("Qwen3-VL 2B: whole, in "))
    assert folder.is_relative_to(tmp_path / "home")
    assert folder.name == ENTRY.revision
    assert names(folder) == names(checkpoint)
    assert "100%" in run.stderr


def test_they_are_fetched_to_a_folder_by_their_name_on_the_hub(pull, checkpoint, tmp_path):
    run = pull("Qwen/Qwen3-VL-2B-Instruct", "--to", str(tmp_path / "weights"))
    assert run.returncode == 0, run.stderr
    assert names(tmp_path / "weights" / ENTRY.id) == names(checkpoint)


def test_what_is_there_is_not_fetched_again(pull, hub):
    assert pull(ENTRY.id).returncode == 0
    hub.downloads.clear()
    assert pull(ENTRY.id).returncode == 0
    assert hub.downloads == []


@pytest.mark.parametrize("to_folder", [True, False])
def test_a_file_that_differs_from_the_hub_s_is_fetched_again(pull, hub, tmp_path, to_folder):
    where = ["--to", str(tmp_path / "weights")] if to_folder else []
    run = pull(ENTRY.id, *where)
    folder = Path(run.stdout.strip().rpartition(" whole, in ")[2])
    file = folder / "model.safetensors"
    whole = file.read_bytes()
    file.write_bytes(whole[:-8] + bytes(8))
    hub.downloads.clear()
    run = pull(ENTRY.id, *where)
    assert run.returncode == 0, run.stderr
    assert "fetching model.safetensors again" in run.stdout
    assert file.read_bytes() == whole
    assert hub.downloads == ["model.safetensors"]


def test_a_file_that_still_differs_is_named(pull, hub):
    hub.told["config.json"] = b"another"
    run = pull(ENTRY.id)
    assert run.returncode == 1
    assert run.stderr.strip().splitlines()[-1] == (
        "config.json of Qwen/Qwen3-VL-2B-Instruct still differs from the hub's: try again, or "
        "check the disk."
    )


def test_a_repository_that_lacks_what_is_loaded_is_told(pull, hub):
    del hub.files["model.safetensors"]
    run = pull(ENTRY.id)
    assert run.returncode == 1
    assert "does not hold what the service loads: model.safetensors or" in run.stderr


def test_a_hub_that_cannot_be_reached_is_told_without_a_traceback(pull):
    run = pull(ENTRY.id, HF_ENDPOINT="http://127.0.0.1:9")
    assert run.returncode == 1
    assert "Qwen/Qwen3-VL-2B-Instruct could not be fetched (" in run.stderr
    assert "Traceback" not in run.stderr


def test_a_model_of_a_catalog_file_is_fetched_at_its_revision(pull, hub, tmp_path):
    catalog = tmp_path / "models.toml"
    catalog.write_text(
        '[[models]]\nid = "mine"\nfamily = "qwen_vl"\nrepository = "me/mine"\nrevision = "v2"\n'
    )
    run = pull("me/mine", CHATVLM_CATALOG=str(catalog))
    assert run.returncode == 0, run.stderr
    assert "v2" in hub.revisions


def test_a_model_that_nobody_knows_is_answered_with_those_that_can_be_fetched(pull):
    run = pull("nonesuch")
    assert run.returncode == 2
    assert "invalid choice: 'nonesuch' (choose from" in run.stderr
    assert "reader" not in run.stderr.partition("choose from")[2]
