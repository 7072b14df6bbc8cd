"""A model that a catalog file adds, through the real server."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.models.checkpoints import make_checkpoint
from tests.support.pages import ENGLISH, encode, render
from tests.support.server import ROOT, Server

PAGE = encode(render(ENGLISH[:1], font_px=20).resize((400, 300)))
SAYS = "seven small wizards"
HUB_NAME = "me/my-qwen"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("catalog")
    make_checkpoint("qwen2_5_vl_3b", folder / "fine_tuned", says=SAYS)
    catalog = folder / "models.toml"
    catalog.write_text(
        "[[models]]\n"
        'id = "mine"\n'
        'name = "My Qwen2.5-VL"\n'
        'family = "qwen_vl"\n'
        f'repository = "{HUB_NAME}"\n'
        'folder = "fine_tuned"\n'
        'params = "3B"\n'
    )
    with Server(
        models="reader,mine",
        catalog=catalog,
        dtype="float32",
        reader_processes=1,
        request_timeout=300,  # the first request loads the model
    ) as server:
        yield server


def test_it_has_a_card_in_models(server: Server) -> None:
    (card,) = [m for m in server.client.get("/models").json()["available"] if m["id"] == "mine"]
    assert (card["name"], card["params"]) == ("My Qwen2.5-VL", "3B")
    assert card["state"] in ("unloaded", "loaded")
    listed = [model["id"] for model in server.client.get("/v1/models").json()["data"]]
    assert listed == ["reader", "mine"]


@pytest.mark.parametrize("model", ["mine", HUB_NAME])
def test_it_reads_and_is_named_as_it_was_asked_for(server: Server, model: str) -> None:
    answer = server.client.post("/ocr", files={"file": PAGE}, data={"model": model})
    assert answer.status_code == 200, answer.text
    assert (answer.json()["text"], answer.json()["model"]) == (SAYS, model)
    assert server.client.get(f"/v1/models/{model}").json()["id"] == model


def test_it_is_loaded_and_unloaded_by_its_name_on_the_hub(server: Server) -> None:
    assert server.client.post(f"/models/{HUB_NAME}").status_code == 200
    assert "mine" in server.client.get("/models").json()["loaded"]
    assert server.client.delete(f"/models/{HUB_NAME}").status_code == 200
    assert "mine" not in server.client.get("/models").json()["loaded"]


def test_a_wrong_file_ends_the_start_with_one_sentence(server: Server, tmp_path: Path) -> None:
    wrong = tmp_path / "models.toml"
    wrong.write_text('[[models]]\nid = "mine"\nfamily = "qwen2_5_vl"\nfolder = "x"\n')
    run = subprocess.run(
        [sys.executable, "-m", "bentoml", "serve", "service:service", "--port", "0"],
        cwd=ROOT,
        env=server.environment | {"CHATVLM_CATALOG": str(wrong)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert run.returncode == 1
    assert run.stderr.strip().splitlines()[-1] == (
        f"CHATVLM_CATALOG: '{wrong}', model 'mine': unknown family 'qwen2_5_vl'; known: dots_ocr, "
        "got_ocr, qwen_vl."
    )
    assert "Traceback" not in run.stderr
