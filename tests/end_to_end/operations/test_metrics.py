"""What /metrics tells of the models."""

import re

import pytest

from tests.support.pages import ENGLISH, encode, render
from tests.support.server import Server

PAGE = encode(render(ENGLISH))


def metric(server: Server, name: str, model: str) -> float:
    """The sum over all processes and labels."""
    found = re.findall(
        rf'^chatvlm_{name}\{{.*model="{model}".*\}} (\S+)$',
        server.client.get("/metrics").text,
        re.MULTILINE,
    )
    return sum(map(float, found))


def test_tokens_are_counted(fleet: Server) -> None:
    fleet.client.post("/ocr", files={"file": PAGE}, data={"model": "qwen3_vl_2b"})
    before = metric(fleet, "tokens_total", "qwen3_vl_2b")
    answer = fleet.client.post("/ocr", files={"file": PAGE}, data={"model": "qwen3_vl_2b"})
    made = metric(fleet, "tokens_total", "qwen3_vl_2b") - before
    assert made == answer.json()["usage"]["completion_tokens"]


@pytest.mark.parametrize("model", ["qwen3_vl_2b", "reader"])
def test_a_model_takes_memory_until_it_is_unloaded(model: str, fleet: Server) -> None:
    answer = fleet.client.post("/ocr", files={"file": PAGE}, data={"model": model})
    assert answer.status_code == 200
    assert metric(fleet, "model_bytes", model) > 2**20
    assert metric(fleet, "requests", model) == 0
    assert fleet.client.delete(f"/models/{model}").status_code == 200
    for name in ("model_bytes", "kv_bytes", "reuse_bytes", "rows_in_flight"):
        assert metric(fleet, name, model) == 0
