"""What `chatvlm-server kubernetes` writes, as kubectl renders it."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from commands.cli import main
from common.catalog import CATALOG, add_models
from settings import Settings, settings

TEXT = """
[[models]]
id = "my_qwen"
family = "qwen_vl"
folder = "/weights/my_qwen"

[[models]]
id = "olmocr"
family = "qwen_vl"
repository = "allenai/olmOCR-2-7B-1025"
"""


@pytest.fixture(autouse=True)
def catalog(tmp_path, monkeypatch):
    file = tmp_path / "models.toml"
    file.write_text(TEXT)
    monkeypatch.setenv("CHATVLM_CATALOG", str(file))
    settings.cache_clear()
    yield file
    add_models([])
    settings.cache_clear()


@pytest.fixture
def rendered(tmp_path) -> dict[tuple[str, str], Any]:
    """By kind and name, without the hash of a ConfigMap's name."""
    if shutil.which("kubectl") is None:
        pytest.skip("kubectl is not installed")
    assert main(["kubernetes", str(tmp_path / "overlay")]) == 0
    done = subprocess.run(
        ["kubectl", "kustomize", str(tmp_path / "overlay")], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    objects = yaml.safe_load_all(done.stdout)
    return {(o["kind"], re.sub(r"-\w{10}$", "", o["metadata"]["name"])): o for o in objects}


def test_every_object_is_what_kubernetes_takes(rendered):
    for o in rendered.values():
        kubernetes_validate.validate(o, kubernetes_validate.latest_version(), strict=True)


def test_the_gateway_knows_all_models_and_finds_their_runners(rendered, monkeypatch):
    data = rendered["ConfigMap", "gateway"]["data"]
    assert data["CHATVLM_DEFAULT_MODEL"] == "qwen3_vl_2b"
    assert data["CHATVLM_CATALOG"] == "/catalog/models.toml"
    for name in ("CHATVLM_MODELS", "CHATVLM_REMOTE"):
        monkeypatch.setenv(name, data[name])
    used = Settings()
    assert used.models == tuple(used.remote) == tuple(CATALOG)
    for model, (url,) in used.remote.items():
        name = url.removeprefix("http://").removesuffix(":8000")
        selector = rendered["Service", name]["spec"]["selector"]
        pods = rendered["Deployment", name]["spec"]["template"]["metadata"]["labels"]
        assert selector.items() <= pods.items()
        assert pods["chatvlmllm/model"] == model
    assert {"my_qwen", "olmocr"} <= used.remote.keys()


def test_every_pod_reads_the_catalog(rendered, catalog):
    assert rendered["ConfigMap", "catalog"]["data"] == {"models.toml": catalog.read_text()}
    map_name = rendered["ConfigMap", "catalog"]["metadata"]["name"]
    for (kind, name), o in rendered.items():
        if kind == "Deployment":
            spec = o["spec"]["template"]["spec"]
            assert {"name": "catalog", "configMap": {"name": map_name}} in spec["volumes"]
            (container,) = spec["containers"]
            mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
            assert mounts["catalog"] == "/catalog"
            env = {one["name"]: one.get("value") for one in container.get("env", [])}
            assert name == "gateway" or env["CHATVLM_CATALOG"] == "/catalog/models.toml"


def test_an_added_model_has_a_gpu_and_is_scaled_as_the_others_are(rendered):
    known, added = (
        rendered["Deployment", f"{name}-runner"]["spec"]["template"]["spec"]
        for name in ("qwen-vl-2b", "my-qwen")
    )
    assert added["containers"] == known["containers"]
    assert ("HorizontalPodAutoscaler", "my-qwen-runner") in rendered
    labels = rendered["Deployment", "my-qwen-runner"]["metadata"]["labels"]
    assert labels["app.kubernetes.io/name"] == "chatvlmllm"
    assert labels["app.kubernetes.io/component"] == "runner"


def test_without_a_catalog_file_there_is_nothing_to_write(tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("CHATVLM_CATALOG")
    settings.cache_clear()
    with pytest.raises(SystemExit) as ended:
        main(["kubernetes", str(tmp_path / "overlay")])
    assert ended.value.code == 2
    assert "CHATVLM_CATALOG names no file" in capsys.readouterr().err
    assert not Path(tmp_path / "overlay").exists()


def test_a_folder_that_cannot_be_written_to_is_named(catalog, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["kubernetes", str(catalog)])
    assert ended.value.code == 2
    assert f"'{catalog}' cannot be written to (File exists)" in capsys.readouterr().err
