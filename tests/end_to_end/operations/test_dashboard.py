"""The dashboard's queries, put to a real Prometheus that watches the service under load."""

import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import httpx
import pytest
import yaml

from tests.support.pages import ENGLISH, encode, render
from tests.support.server import ROOT, Server, free_port

MONITORING = ROOT / "deploy" / "monitoring"
DASHBOARD = json.loads((MONITORING / "grafana" / "chatvlmllm.json").read_text())
QUERIES = [
    pytest.param(target["expr"], id=f"{panel['title']} {target['refId']}")
    for panel in DASHBOARD["panels"]
    for target in panel["targets"]
]
(ADAPTER,) = yaml.safe_load(
    (ROOT / "deploy" / "kubernetes" / "prometheus-adapter.yaml").read_text()
)["rules"]["custom"]
SCRAPES = 5
"""Between which the counters of both models rise."""
START_SECONDS = 60


class Prometheus:
    def __init__(self, url: str) -> None:
        self._client = httpx.Client(base_url=url, timeout=10)

    def ready(self) -> bool:
        with suppress(httpx.TransportError):
            return self._client.get("/-/ready").is_success
        return False

    def ask(self, query: str) -> list[Any]:
        """The series, each with its newest value."""
        answer = self._client.get("/api/v1/query", params={"query": query}).json()
        assert answer["status"] == "success", answer
        return answer["data"]["result"]


@pytest.fixture(scope="module")
def prometheus(fleet: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """Configured by the project's file, but for the address and a shorter interval."""
    program = shutil.which("prometheus")
    if program is None:
        pytest.skip("Prometheus is not installed (Debian's package `prometheus`)")
    folder = tmp_path_factory.mktemp("prometheus")
    config = yaml.safe_load((MONITORING / "prometheus.yml").read_text())
    config["global"]["scrape_interval"] = "1s"
    (job,) = config["scrape_configs"]
    job["static_configs"] = [{"targets": [f"127.0.0.1:{fleet.port}"]}]
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    address = f"127.0.0.1:{free_port()}"
    process = subprocess.Popen(
        [
            program,
            f"--config.file={folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={folder / 'data'}",
            f"--web.listen-address={address}",
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        prometheus = Prometheus(f"http://{address}")
        give_up = time.monotonic() + START_SECONDS
        while not prometheus.ready():
            assert time.monotonic() < give_up
            assert process.poll() is None
            time.sleep(0.1)
        yield prometheus
    finally:
        process.terminate()
        process.wait(10)


@pytest.fixture(scope="module")
def watched(prometheus: Prometheus, fleet: Server) -> Prometheus:
    """After, and while, pages were read by the embedded reader and by a vision-language model."""
    page = encode(render(ENGLISH))

    def ask(model: str) -> int:
        answers = [
            fleet.client.post("/ocr", files={"file": page}, data={"model": model}),
            fleet.client.post(
                "/chat", files={"file": page}, data={"model": model, "prompt": "Who?"}
            ),
            fleet.client.post("/batch/ocr", files={"files": page}, data={"model": model}),
        ]
        return max(answer.status_code for answer in answers)

    def scrapes() -> int:
        series = prometheus.ask('count_over_time(up{job="chatvlmllm"}[5m])')
        return int(series[0]["value"][1]) if series else 0

    models = ["reader", "qwen3_vl_2b"]
    give_up = time.monotonic() + START_SECONDS
    first: int | None = None
    while first is None or scrapes() < first + SCRAPES:
        assert time.monotonic() < give_up
        with ThreadPoolExecutor(len(models)) as pool:
            assert list(pool.map(ask, models)) == [200] * len(models)
        if first is None:  # from here on both are loaded
            first = scrapes()
    return prometheus


@pytest.mark.parametrize("query", QUERIES)
def test_no_panel_is_empty(query: str, watched: Prometheus) -> None:
    series = watched.ask(query.replace("$__rate_interval", "1m"))
    assert any(float(one["value"][1]) >= 0 for one in series)  # a NaN, which is none, is not


def test_every_model_that_was_asked_is_in_the_panels_of_models(watched: Prometheus) -> None:
    for panel in DASHBOARD["panels"]:
        if panel["title"] in ("Rows in flight", "Queue", "Memory of a model"):
            series = watched.ask(panel["targets"][0]["expr"])
            assert {one["metric"]["model"] for one in series} >= {"reader", "qwen3_vl_2b"}


def test_a_loaded_model_takes_memory(watched: Prometheus) -> None:
    for series in watched.ask("sum by (model) (chatvlm_model_bytes)"):
        if series["metric"]["model"] in ("reader", "qwen3_vl_2b"):
            assert float(series["value"][1]) > 2**20


def test_the_autoscalers_metric_is_there(watched: Prometheus) -> None:
    """As prometheus-adapter asks for it, but for labels that only Kubernetes gives."""
    query = (
        ADAPTER["metricsQuery"].replace("<<.GroupBy>>", "model").replace("<<.LabelMatchers>>", "")
    )
    assert {one["metric"]["model"] for one in watched.ask(query)} >= {"reader", "qwen3_vl_2b"}
    assert ADAPTER["seriesQuery"].startswith("chatvlm_requests{")
