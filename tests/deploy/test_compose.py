"""That the files beside deploy/compose.yaml fit each other. tests/end_to_end/test_dashboard.py puts
the dashboard to use."""

import json
from pathlib import Path
from typing import Any

import yaml

from settings import Settings

DEPLOY = Path(__file__).parents[2] / "deploy"
GRAFANA = DEPLOY / "monitoring" / "grafana"
COMPOSE = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
SERVICES: dict[str, Any] = COMPOSE["services"]


def mounts(service: str) -> dict[str, str]:
    """What lies where in the container."""
    parts = (mount.removesuffix(":ro").rpartition(":") for mount in SERVICES[service]["volumes"])
    return {inside: outside for outside, _, inside in parts}


def test_every_file_that_is_mounted_is_there_and_every_volume_is_declared() -> None:
    for service in SERVICES:
        for source in mounts(service).values():
            if source.startswith("./"):
                assert (DEPLOY / source).is_file()
            elif not source.startswith("$"):
                assert source in COMPOSE["volumes"]


def test_prometheus_watches_the_service_and_grafana_asks_prometheus() -> None:
    (job,) = yaml.safe_load((DEPLOY / "monitoring/prometheus.yml").read_text())["scrape_configs"]
    assert job["static_configs"] == [{"targets": ["chatvlmllm:8000"]}]
    (source,) = yaml.safe_load((GRAFANA / "datasource.yaml").read_text())["datasources"]
    assert source["url"] == "http://prometheus:9090"
    dashboard = json.loads((GRAFANA / "chatvlmllm.json").read_text())
    assert {panel["datasource"]["uid"] for panel in dashboard["panels"]} == {source["uid"]}


def test_grafana_finds_the_dashboard_where_it_is_mounted() -> None:
    (provider,) = yaml.safe_load((GRAFANA / "dashboards.yaml").read_text())["providers"]
    home = SERVICES["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert home in mounts("grafana")
    assert home.startswith(provider["options"]["path"] + "/")


def test_the_service_is_given_time_to_end_and_nothing_else_to_write_to() -> None:
    service = SERVICES["chatvlmllm"]
    assert service["read_only"] is True
    assert service["tmpfs"] == ["/tmp"]
    assert service["stop_grace_period"] == "1m"
    assert Settings().request_timeout < 60
