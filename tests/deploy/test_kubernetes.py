"""What deploy/kubernetes renders to. No cluster: the objects are held to Kubernetes' schemas."""

import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from common.catalog import CATALOG
from settings import Settings
from tests.support.markdown import read

DEPLOY = Path(__file__).parents[2] / "deploy"
KUBERNETES = DEPLOY / "kubernetes"
DOCUMENT = read("docs/deployment.md")
RUNNERS = {model: f"{model.replace('_', '-')}-runner" for model in CATALOG}
OUTSIDE = {"kubernetes.io/metadata.name": "somewhere"}
MONITORING = {"kubernetes.io/metadata.name": "monitoring"}
USER = 1034
"""The user that the image runs as."""

Object = dict[str, Any]


def render(folder: Path) -> list[Object]:
    for command in (["kubectl", "kustomize"], ["kustomize", "build"]):
        if shutil.which(command[0]):
            done = subprocess.run([*command, str(folder)], capture_output=True, text=True)
            assert done.returncode == 0, done.stderr
            return list(yaml.safe_load_all(done.stdout))
    pytest.skip("neither kubectl nor kustomize is installed")


@pytest.fixture(scope="module")
def rendered() -> dict[tuple[str, str], Object]:
    """By kind and name."""
    objects = {}
    for o in render(KUBERNETES):
        objects[o["kind"], re.sub(r"^(gateway)-\w{10}$", r"\1", o["metadata"]["name"])] = o
    return objects


def named(rendered: Mapping[tuple[str, str], Object], kind: str) -> dict[str, Object]:
    return {name: o for (of, name), o in rendered.items() if of == kind}


def pod(deployment: Object) -> Object:
    return deployment["spec"]["template"]["spec"]


def labels(deployment: Object) -> dict[str, str]:
    return deployment["spec"]["template"]["metadata"]["labels"]


def selects(selector: Object, labels: Mapping[str, str]) -> bool:
    return selector.get("matchLabels", {}).items() <= labels.items()


def admits(policies: Mapping[str, Object], to: Mapping[str, str], by: Object) -> bool:
    """Whether a pod labelled `to` may be called by `by`: labels of a `pod` of this namespace, or
    of a `namespace`. https://kubernetes.io/docs/concepts/services-networking/network-policies"""
    for policy in policies.values():
        spec = policy["spec"]
        if "Ingress" in spec["policyTypes"] and selects(spec["podSelector"], to):
            for rule in spec.get("ingress", []):
                for peer in rule.get("from", [{}]):
                    kinds = {"podSelector": "pod", "namespaceSelector": "namespace"}
                    if all(
                        key in by and selects(peer[name], by[key])
                        for name, key in kinds.items()
                        if name in peer
                    ):
                        return True
    return False


def test_every_object_is_what_kubernetes_takes(rendered: dict[tuple[str, str], Object]) -> None:
    for o in rendered.values():
        kubernetes_validate.validate(o, kubernetes_validate.latest_version(), strict=True)


def test_the_gateway_finds_a_runner_of_every_model(
    rendered: dict[tuple[str, str], Object], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in rendered["ConfigMap", "gateway"]["data"].items():
        monkeypatch.setenv(name, value)
    settings = Settings()
    assert settings.models == tuple(CATALOG)
    assert settings.remote.keys() == CATALOG.keys()
    for model, urls in settings.remote.items():
        assert [str(url) for url in urls] == [f"http://{RUNNERS[model]}:8000"]
        service = rendered["Service", RUNNERS[model]]["spec"]
        assert service["clusterIP"] == "None"
        assert service["selector"].items() <= labels(rendered["Deployment", RUNNERS[model]]).items()


@pytest.mark.parametrize("model", CATALOG)
def test_a_runner_serves_its_model(model: str, rendered: dict[tuple[str, str], Object]) -> None:
    deployment = rendered["Deployment", RUNNERS[model]]
    (container,) = pod(deployment)["containers"]
    env = {variable["name"]: variable for variable in container["env"]}
    path = env["MODEL"]["valueFrom"]["fieldRef"]["fieldPath"]
    assert labels(deployment)[path.split("'")[1]] == model
    assert container["args"] == ["service:$(MODEL)"]
    assert env["CHATVLM_PRELOAD"]["value"] == "$(MODEL)"


@pytest.mark.parametrize("model", CATALOG)
def test_a_model_with_weights_gets_a_gpu_and_the_image_with_pytorch(
    model: str, rendered: dict[tuple[str, str], Object]
) -> None:
    (container,) = pod(rendered["Deployment", RUNNERS[model]])["containers"]
    has_weights = CATALOG[model].repository is not None
    assert ("nvidia.com/gpu" in container["resources"]["limits"]) == has_weights
    assert (
        "/weights" in [mount["mountPath"] for mount in container["volumeMounts"]]
    ) == has_weights
    assert container["image"].endswith("-gpu" if has_weights else "-reader")


def test_no_container_may_more_than_it_needs(rendered: dict[tuple[str, str], Object]) -> None:
    for deployment in named(rendered, "Deployment").values():
        spec = pod(deployment)
        assert spec["automountServiceAccountToken"] is False
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["runAsUser"] == USER
        for container in spec["containers"]:
            assert container["securityContext"] == {
                "readOnlyRootFilesystem": True,
                "allowPrivilegeEscalation": False,
                "capabilities": {"drop": ["ALL"]},
            }


def test_a_pod_gets_the_time_to_answer_what_it_has_taken(
    rendered: dict[tuple[str, str], Object],
) -> None:
    for deployment in named(rendered, "Deployment").values():
        spec = pod(deployment)
        (container,) = spec["containers"]
        _, before = container["lifecycle"]["preStop"]["exec"]["command"]
        assert spec["terminationGracePeriodSeconds"] > int(before) + Settings().request_timeout


def test_who_may_call_whom(rendered: dict[tuple[str, str], Object]) -> None:
    policies = named(rendered, "NetworkPolicy")
    gateway = labels(rendered["Deployment", "gateway"])
    assert admits(policies, gateway, {"namespace": OUTSIDE})
    for name in RUNNERS.values():
        runner = labels(rendered["Deployment", name])
        assert admits(policies, runner, {"pod": gateway})
        assert admits(policies, runner, {"namespace": MONITORING})
        assert not admits(policies, runner, {"namespace": OUTSIDE})
        assert not admits(policies, runner, {"pod": runner})
        assert not admits(policies, runner, {"pod": {}})


@pytest.mark.parametrize("kind", ["PodDisruptionBudget", "Deployment"])
def test_what_selects_pods_selects_those_of_one_deployment(
    kind: str, rendered: dict[tuple[str, str], Object]
) -> None:
    deployments = named(rendered, "Deployment")
    assert named(rendered, kind).keys() == deployments.keys()
    for name, o in named(rendered, kind).items():
        chosen = [
            other
            for other, deployment in deployments.items()
            if selects(o["spec"]["selector"], labels(deployment))
        ]
        assert chosen == [name]


def test_every_runner_is_scaled_by_its_queue(rendered: dict[tuple[str, str], Object]) -> None:
    (rule,) = yaml.safe_load((KUBERNETES / "prometheus-adapter.yaml").read_text())["rules"][
        "custom"
    ]
    scalers = named(rendered, "HorizontalPodAutoscaler")
    assert scalers.keys() == set(RUNNERS.values())
    for name, scaler in scalers.items():
        spec = scaler["spec"]
        assert spec["scaleTargetRef"]["name"] == name
        assert "replicas" not in rendered["Deployment", name]["spec"]
        (metric,) = spec["metrics"]
        assert metric["pods"]["metric"]["name"] == rule["name"]["as"]


def test_the_overlay_of_the_document_sets_images_and_turns_models_off(tmp_path: Path) -> None:
    (overlay,) = re.findall(r"^```yaml\n(.*?)^```$", DOCUMENT, re.MULTILINE | re.DOTALL)
    base = os.path.relpath(KUBERNETES, tmp_path)
    (tmp_path / "kustomization.yaml").write_text(overlay.replace("../deploy/kubernetes", base))
    deployments = {o["metadata"]["name"]: o for o in render(tmp_path) if o["kind"] == "Deployment"}
    assert deployments["qwen-vl-7b-runner"]["spec"]["replicas"] == 0
    images = {
        name: container["image"]
        for name, deployment in deployments.items()
        for container in pod(deployment)["containers"]
    }
    assert images["gateway"] == "registry.example/chatvlmllm:VERSION-reader"
    assert images["qwen3-vl-2b-runner"] == "registry.example/chatvlmllm:VERSION-gpu"
