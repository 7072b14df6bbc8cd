"""Every vision-language model through the real server, on tiny checkpoints of its architecture."""

import shutil
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from common.catalog import CATALOG
from tests.support.pages import ENGLISH, encode, render
from tests.support.server import RAMBLING, SAYS, Server
from tests.support.streams import events
from tests.support.watching import until

SIZE = (400, 300)
PAGE = encode(render(ENGLISH[:1], font_px=20).resize(SIZE))
GREEDY = {"model": RAMBLING, "temperature": "0", "max_tokens": "24"}
WITHOUT_LAYOUT = [model for model in SAYS if model != "dots_ocr"]
WITHOUT_REGIONS = [model for model in SAYS if model != "got_ocr"]


def post(server: Server, route: str, fields: dict[str, str], page: bytes = PAGE) -> dict[str, Any]:
    response = server.client.post(route, files={"file": page}, data=fields)
    assert response.status_code == 200, response.text
    return response.json()


def state(server: Server, model: str) -> dict[str, Any]:
    """What /models says of it."""
    listed = server.client.get("/models").json()["available"]
    return next(entry for entry in listed if entry["id"] == model)


@pytest.fixture
def unloaded(fleet: Server) -> str:
    """A model that is not in memory."""
    model = "qwen_vl_7b"
    fleet.client.delete(f"/models/{model}")
    return model


def test_the_service_tells_how_a_model_comes_and_goes(unloaded: str, fleet: Server) -> None:
    before = state(fleet, unloaded)
    assert (before["state"], before["device"], before["memory_bytes"]) == ("unloaded", None, None)
    with ThreadPoolExecutor() as pool:
        answer = pool.submit(post, fleet, "/ocr", {"model": unloaded})
        seen = set()
        while not answer.done():
            seen.add(state(fleet, unloaded)["state"])
            time.sleep(0.02)
    assert "loading" in seen
    until(
        lambda: state(fleet, unloaded)["state"] == "loaded"
    )  # a busy runner is shown as last seen
    loaded = state(fleet, unloaded)
    assert loaded["device"] == "cpu"
    assert loaded["dtype"] in ("float32", "bfloat16")
    assert loaded["memory_bytes"] > 0
    health = fleet.client.get("/health").json()
    assert unloaded in health["loaded_models"]
    assert health["models_loaded"] == len(health["loaded_models"])
    assert fleet.client.delete(f"/models/{unloaded}").status_code == 200
    assert state(fleet, unloaded) == before
    assert unloaded not in fleet.client.get("/health").json()["loaded_models"]


def test_an_unloaded_model_comes_back_when_it_is_asked(unloaded: str, fleet: Server) -> None:
    assert fleet.client.delete(f"/models/{unloaded}").status_code == 404
    assert post(fleet, "/ocr", {"model": unloaded})["text"] == SAYS[unloaded]
    assert fleet.client.delete(f"/models/{unloaded}").status_code == 200
    assert post(fleet, "/ocr", {"model": unloaded})["text"] == SAYS[unloaded]


@pytest.mark.parametrize("model", SAYS)
def test_each_model_reads_a_page(model: str, fleet: Server) -> None:
    answer = post(fleet, "/ocr", {"model": model, "language": "English"})
    assert answer["text"] == SAYS[model]
    assert (answer["model"], answer["language"]) == (model, "English")
    assert answer["image_size"] == list(SIZE)
    assert answer["finish_reason"] == "stop"
    usage = answer["usage"]
    assert usage["prompt_tokens"] > usage["visual_tokens"] > 0
    assert usage["completion_tokens"] > 0


@pytest.mark.parametrize("model", SAYS)
def test_each_model_answers_a_question(model: str, fleet: Server) -> None:
    answer = post(fleet, "/chat", {"model": model, "prompt": "What is this?"})
    assert (answer["response"], answer["prompt"]) == (SAYS[model], "What is this?")
    # One that can only read says that it was not asked.
    assert answer.get("prompt_used") is (False if model == "got_ocr" else None)


@pytest.mark.parametrize("model", SAYS)
def test_each_model_streams_its_answer(model: str, fleet: Server) -> None:
    response = fleet.client.post(
        "/chat", files={"file": PAGE}, data={"model": model, "stream": "true"}
    )
    assert response.headers["content-type"].startswith("text/event-stream")
    *pieces, (last, answer) = events(response.text)
    assert {name for name, _ in pieces} == {"piece"}
    assert last == "answer"
    assert "".join(data["text"] for _, data in pieces) == answer["response"] == SAYS[model]


@pytest.mark.parametrize("model", SAYS)
def test_each_model_reads_a_batch(model: str, fleet: Server) -> None:
    files = [("files", (f"{number}.png", PAGE)) for number in range(3)]
    answer = fleet.client.post("/batch/ocr", files=files, data={"model": model}).json()
    assert [item["filename"] for item in answer["results"]] == ["0.png", "1.png", "2.png"]
    assert [item["text"] for item in answer["results"]] == [SAYS[model]] * 3
    assert (answer["total"], answer["successful"], answer["failed"]) == (3, 3, 0)


def test_an_answer_ends_at_max_tokens(fleet: Server) -> None:
    answer = post(fleet, "/chat", GREEDY)
    assert answer["finish_reason"] == "length"
    assert answer["usage"]["completion_tokens"] == int(GREEDY["max_tokens"])


def test_requests_at_once_get_each_their_own_answer(fleet: Server) -> None:
    pages = [encode(render([line], font_px=size)) for line in ENGLISH for size in (16, 30)]
    alone = [post(fleet, "/chat", GREEDY, page)["response"] for page in pages]
    assert len(set(alone)) > 1
    with ThreadPoolExecutor(len(pages)) as pool:
        together = list(pool.map(lambda page: post(fleet, "/chat", GREEDY, page), pages))
    assert [answer["response"] for answer in together] == alone


def test_models_at_once_get_each_their_own_answer(fleet: Server) -> None:
    asked = [*SAYS, *SAYS]
    with ThreadPoolExecutor(len(asked)) as pool:
        answers = list(pool.map(lambda model: post(fleet, "/ocr", {"model": model}), asked))
    assert [answer["text"] for answer in answers] == [SAYS[model] for model in asked]


def test_dots_ocr_gives_the_blocks_of_a_layout(fleet: Server) -> None:
    answer = post(fleet, "/ocr", {"model": "dots_ocr", "mode": "layout"})
    (block,) = answer["blocks"]
    assert (block["category"], block["text"]) == ("Title", "The lazy dog")
    x0, y0, x1, y1 = block["box"]
    assert 0 <= x0 < x1 <= SIZE[0]
    assert 0 <= y0 < y1 <= SIZE[1]
    assert answer["text"] == "# The lazy dog"
    assert answer["truncated"] is False


@pytest.mark.parametrize("model", WITHOUT_LAYOUT)
def test_other_models_refuse_a_layout(model: str, fleet: Server) -> None:
    response = fleet.client.post(
        "/ocr", files={"file": PAGE}, params={"model": model, "mode": "layout"}
    )
    assert response.status_code == 400
    assert "'mode'" in response.json()["detail"]


@pytest.mark.parametrize(
    "options", [{"box": "10,10,200,100"}, {"color": "red"}, {"formatted": "true"}]
)
def test_got_ocr_reads_regions_colours_and_structure(
    options: dict[str, str], fleet: Server
) -> None:
    assert post(fleet, "/ocr", {"model": "got_ocr", **options})["text"] == SAYS["got_ocr"]


def test_a_box_outside_the_page_is_refused(fleet: Server) -> None:
    fields = {"model": "got_ocr", "box": "10,10,4000,100"}
    response = fleet.client.post("/ocr", files={"file": PAGE}, data=fields)
    assert response.status_code == 400
    assert "400 x 300" in response.json()["detail"]


@pytest.mark.parametrize("model", WITHOUT_REGIONS)
@pytest.mark.parametrize("option", [{"box": "10,10,200,100"}, {"color": "red"}])
def test_other_models_refuse_a_region(option: dict[str, str], model: str, fleet: Server) -> None:
    response = fleet.client.post("/ocr", files={"file": PAGE}, data={"model": model, **option})
    assert response.status_code == 400
    assert f"'{next(iter(option))}'" in response.json()["detail"]


def test_got_ocr_warns_of_a_language_it_was_not_taught(fleet: Server) -> None:
    russian = post(fleet, "/ocr", {"model": "got_ocr", "language": "ru"})
    assert "Russian" in russian["warning"]
    assert "warning" not in post(fleet, "/ocr", {"model": "got_ocr", "language": "en"})


class TestWeights:
    @pytest.fixture
    def folder(self, unloaded: str, weights: Path, tmp_path: Path) -> Iterator[Path]:
        """The model's weights, which are whole again afterwards."""
        folder = weights / unloaded
        shutil.copytree(folder, tmp_path / "whole")
        yield folder
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(tmp_path / "whole", folder)

    def refusal(self, server: Server, model: str) -> str:
        response = server.client.post("/ocr", files={"file": PAGE}, data={"model": model})
        assert response.status_code == 503
        assert "retry-after" not in response.headers  # only an operator can help
        return response.json()["detail"]

    def test_what_is_missing_is_named_with_its_place(
        self, unloaded: str, folder: Path, fleet: Server
    ) -> None:
        shutil.rmtree(folder)
        detail = self.refusal(fleet, unloaded)
        assert str(CATALOG[unloaded].repository) in detail
        assert f"CHATVLM_WEIGHTS/{unloaded}" in detail
        listed = state(fleet, unloaded)
        assert (listed["state"], listed["reason"]) == ("unavailable", detail)

    def test_half_a_download_is_refused_and_the_runner_lives_on(
        self, unloaded: str, folder: Path, fleet: Server
    ) -> None:
        (runner,) = fleet.runners(unloaded)
        file = sorted(folder.glob("*.safetensors"))[-1]  # of several on the hub
        whole = file.read_bytes()
        file.write_bytes(whole[: len(whole) // 2])
        detail = self.refusal(fleet, unloaded)
        assert file.name in detail
        assert str(folder.parent) not in detail
        file.write_bytes(whole)
        assert post(fleet, "/ocr", {"model": unloaded})["text"] == SAYS[unloaded]
        assert fleet.runners(unloaded) == [runner]
