import json
import logging
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import huggingface_hub
import pytest

from common.catalog import CATALOG
from common.failures import ErrorCode, Refusal
from runners.checkpoints import weights
from settings import Settings
from tests.support.hub import Hub
from tests.support.models.checkpoints import make_checkpoint

ENTRY = CATALOG["qwen3_vl_2b"]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return make_checkpoint(ENTRY.id, tmp_path_factory.mktemp("made") / ENTRY.id)


@pytest.fixture
def own(checkpoint, tmp_path):
    """A folder of weights that the test may break."""
    return shutil.copytree(checkpoint, tmp_path / "weights" / ENTRY.id)


@pytest.fixture
def settings(tmp_path):
    return Settings(weights=tmp_path / "weights")


@pytest.fixture(autouse=True)
def hub_cache(tmp_path, monkeypatch):
    """An empty cache of the hub, which cannot be reached."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    return tmp_path / "hub"


@pytest.fixture
def cached(checkpoint, hub_cache):
    """The same files where the hub's client keeps what it downloaded."""
    repository = hub_cache / f"models--{ENTRY.repository.replace('/', '--')}"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("c0ffee")
    return shutil.copytree(checkpoint, repository / "snapshots" / "c0ffee")


def shard(folder):
    """As larger models come: an index and several files."""
    (folder / "model.safetensors").rename(folder / "model-00001-of-00002.safetensors")
    shutil.copy(
        folder / "model-00001-of-00002.safetensors", folder / "model-00002-of-00002.safetensors"
    )
    index = {
        "weight_map": {
            "a": "model-00001-of-00002.safetensors",
            "b": "model-00002-of-00002.safetensors",
        }
    }
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def refusal(settings):
    with pytest.raises(Refusal) as refused:
        weights.fetch(ENTRY, settings)
    assert refused.value.code is ErrorCode.UNAVAILABLE
    return refused.value.failure.detail


def test_a_folder_of_ones_own_comes_first(own, cached, settings):
    assert weights.fetch(ENTRY, settings) == own
    assert weights.why_unavailable(ENTRY, settings) is None


def test_the_hub_s_cache_is_used_without_asking_the_hub(cached, settings):
    assert weights.fetch(ENTRY, settings) == cached
    assert weights.fetch(ENTRY, Settings(weights=None)) == cached
    assert weights.why_unavailable(ENTRY, settings) is None


def test_the_pinned_revision_comes_before_another_in_the_cache(cached, settings, hub_cache):
    pinned = cached.parent / ENTRY.revision
    shutil.copytree(cached, pinned)
    assert weights.fetch(ENTRY, settings) == pinned


def test_the_pinned_revision_is_downloaded(checkpoint, settings, monkeypatch):
    asked = {}

    def download(repository, **how):
        asked.update(how, repository=repository)
        return str(checkpoint)

    monkeypatch.setattr(weights, "snapshot_download", download)
    assert weights.fetch(ENTRY, settings) == checkpoint
    assert (asked["repository"], asked["revision"]) == (ENTRY.repository, ENTRY.revision)


def test_sharded_weights_are_complete(own, settings):
    shard(own)
    assert weights.fetch(ENTRY, settings) == own


def test_a_folder_of_the_catalog_comes_before_all_others(own, cached, settings, tmp_path):
    named = replace(ENTRY, folder=shutil.copytree(own, tmp_path / "named"))
    assert weights.fetch(named, settings) == named.folder
    assert weights.why_unavailable(named, settings) is None
    assert weights.fetch(replace(named, folder=tmp_path / "none"), settings) == own


@pytest.mark.parametrize("repository", [None, ENTRY.repository])
def test_a_folder_of_the_catalog_that_is_not_there_is_told_without_its_path(
    settings, tmp_path, repository
):
    entry = replace(ENTRY, folder=tmp_path / "none", repository=repository)
    with pytest.raises(Refusal) as refused:
        weights.fetch(entry, settings)
    detail = refused.value.failure.detail
    assert detail.startswith("The weights of Qwen3-VL 2B are not here")
    assert "the folder that CHATVLM_CATALOG names for it" in detail
    assert str(tmp_path) not in detail
    assert weights.why_unavailable(entry, settings) == detail


def test_a_revision_is_looked_for_by_its_name(cached, settings):
    (cached.parents[1] / "refs" / "v2").write_text("beef")
    beef = shutil.copytree(cached, cached.parent / "beef")
    mine = replace(ENTRY, id="mine")  # of a catalog file
    assert weights.fetch(replace(mine, revision="v2"), settings) == beef
    assert weights.fetch(replace(mine, revision="c0ffee"), settings) == cached
    assert weights.fetch(replace(mine, revision=None), settings) == cached
    with pytest.raises(Refusal):
        weights.fetch(replace(mine, revision="v3"), settings)


def test_weights_that_are_nowhere_name_the_repository_and_the_folder(settings, tmp_path):
    detail = refusal(settings)
    assert ENTRY.repository in detail
    assert "CHATVLM_WEIGHTS/qwen3_vl_2b" in detail
    assert str(tmp_path) not in detail
    assert weights.why_unavailable(ENTRY, settings) == detail


def test_without_pytorch_no_weights_are_of_use(own, settings, monkeypatch):
    monkeypatch.setattr(weights, "find_spec", lambda name: None)
    assert weights.why_unavailable(ENTRY, settings) == (
        "Qwen3-VL 2B needs PyTorch, which this installation of the service leaves out."
    )


def test_weights_that_the_hub_may_have_count_as_available(settings, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    assert weights.why_unavailable(ENTRY, settings) is None


def cut(path):
    path.write_bytes(path.read_bytes()[:-1000])


BROKEN = {
    "no config": (lambda folder: (folder / "config.json").unlink(), "config.json is missing"),
    "no tokenizer": (lambda folder: (folder / "tokenizer.json").unlink(), "tokenizer.json"),
    "no processor": (
        lambda folder: (folder / "preprocessor_config.json").unlink(),
        "processor_config.json is missing",
    ),
    "no weights": (lambda folder: (folder / "model.safetensors").unlink(), "model.safetensors"),
    "cut weights": (lambda folder: cut(folder / "model.safetensors"), "is cut off or damaged"),
    "empty weights": (
        lambda folder: (folder / "model.safetensors").write_bytes(b""),
        "is cut off or damaged",
    ),
    "missing shard": (
        lambda folder: (shard(folder), (folder / "model-00002-of-00002.safetensors").unlink()),
        "model-00002-of-00002.safetensors is missing",
    ),
    "cut shard": (
        lambda folder: (shard(folder), cut(folder / "model-00002-of-00002.safetensors")),
        "model-00002-of-00002.safetensors is cut off or damaged",
    ),
    "cut config": (lambda folder: cut(folder / "config.json"), "not the JSON"),
    "config of another kind": (
        lambda folder: (folder / "config.json").write_text("[]"),
        "not the JSON",
    ),
    "index of another kind": (
        lambda folder: (
            shard(folder),
            (folder / "model.safetensors.index.json").write_text('{"weight_map": [1]}'),
        ),
        "not the JSON",
    ),
}


@pytest.mark.parametrize("broken", BROKEN)
def test_a_broken_folder_says_what_is_wrong_with_it(own, settings, broken):
    damage, said = BROKEN[broken]
    damage(own)
    detail = refusal(settings)
    assert said in detail
    assert "CHATVLM_WEIGHTS/qwen3_vl_2b" in detail
    assert weights.why_unavailable(ENTRY, settings) == detail


def test_a_half_finished_download_is_refused_where_the_hub_cannot_finish_it(cached, settings):
    cut(cached / "model.safetensors")
    assert weights.why_unavailable(ENTRY, settings) is not None
    assert "cut off or damaged" in refusal(settings)


@pytest.fixture
def hub(checkpoint):
    """A hub that has the checkpoint, and a file that nobody needs."""
    files = {file.name: file.read_bytes() for file in checkpoint.iterdir()}
    with Hub(files | {"pytorch_model.bin": b"the same weights once more"}) as hub:
        yield hub


def run(code, **environment):
    """Run in a process of its own, whose log and output are returned."""
    imports = (
        "import logging, sys; logging.basicConfig(level='INFO')\n"
        "from runners.checkpoints import weights; from common.catalog import CATALOG\n"
        "from settings import Settings\n"
        f"entry, settings = CATALOG['{ENTRY.id}'], Settings()\n"
    )
    return subprocess.run(
        [sys.executable, "-c", imports + code],
        check=True,
        capture_output=True,
        text=True,
        cwd=Path(weights.__file__).parents[2],
        env=environment,
    )


def test_weights_are_downloaded_on_first_use(hub, tmp_path, checkpoint):
    ran = run("print(weights.fetch(entry, settings))", HF_ENDPOINT=hub.url, HF_HOME=str(tmp_path))
    folder = Path(ran.stdout.strip())
    assert folder.is_relative_to(tmp_path)
    assert {file.name for file in folder.iterdir()} == {f.name for f in checkpoint.iterdir()}
    assert "INFO:runners.checkpoints.weights:Downloading Qwen/Qwen3-VL-2B-Instruct" in ran.stderr
    assert "INFO:runners.checkpoints.weights:Downloaded 0.00 of 0.00 GiB" in ran.stderr


def test_the_revision_of_the_catalog_is_downloaded(hub, tmp_path):
    fetch = (
        "from dataclasses import replace\n"
        "print(weights.fetch(replace(entry, revision='v2'), settings))"
    )
    run(fetch, HF_ENDPOINT=hub.url, HF_HOME=str(tmp_path))
    assert set(hub.revisions) == {"v2"}


def test_a_half_finished_download_is_finished(hub, tmp_path):
    fetch = "print(weights.fetch(entry, settings))"
    environment = {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path)}
    folder = Path(run(fetch, **environment).stdout.strip())
    (folder / "model.safetensors").unlink()
    ran = run(f"print(weights.why_unavailable(entry, settings)); {fetch}", **environment)
    assert ran.stdout.split() == ["None", str(folder)]
    assert (folder / "model.safetensors").is_file()


def test_a_download_is_logged_as_it_goes(caplog, monkeypatch):
    clock = iter(range(0, 1000, 4))
    monkeypatch.setattr(weights.time, "monotonic", lambda: next(clock))
    with caplog.at_level(logging.INFO, "runners.checkpoints.weights"):
        progress = weights.LoggedProgress(total=4 * 2**30, unit="B", unit_scale=True)
        for _ in range(4):
            progress.update(2**30)
            progress.refresh()
        progress.close()
        files = weights.LoggedProgress(total=3, unit="it")
        files.update(3)
        files.close()
    assert caplog.messages[0] == "Downloaded 1.00 of 4.00 GiB"
    assert len(caplog.messages) < 4


def test_looking_for_weights_imports_no_torch(own, settings):
    run(
        "assert weights.why_unavailable(entry, settings) is None\n"
        "assert not {'torch', 'transformers'} & set(sys.modules)",
        CHATVLM_WEIGHTS=str(settings.weights),
    )
