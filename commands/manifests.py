"""Writes Kubernetes manifests of the models that `CHATVLM_CATALOG` adds to the service's."""

import os
import shutil
from pathlib import Path

from common.catalog import CATALOG, is_built_in

BASE = Path(__file__).parents[1] / "deploy" / "kubernetes"
_MODEL = """\
apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
namePrefix: {name}-
resources: [{base}/runner]
components: [{base}/gpu]
labels:
  - pairs:
      app.kubernetes.io/name: chatvlmllm
      chatvlmllm/model: {model}
    includeSelectors: true
"""
_ALL = """\
# Written by `chatvlm-server kubernetes`: deploy/kubernetes, and the models of CHATVLM_CATALOG.
apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
namespace: chatvlmllm
resources:
  - {base}
{resources}
configMapGenerator:
  - name: catalog
    files: [models.toml]
  - name: gateway
    behavior: merge
    literals:
      - CHATVLM_CATALOG=/catalog/models.toml
      - CHATVLM_MODELS={models}
      - CHATVLM_REMOTE={remote}
patches:
  - target: {{kind: Deployment}}
    patch: |
      - op: add
        path: /spec/template/spec/volumes/-
        value: {{name: catalog, configMap: {{name: catalog}}}}
      - op: add
        path: /spec/template/spec/containers/0/volumeMounts/-
        value: {{name: catalog, mountPath: /catalog, readOnly: true}}
  - target: {{kind: Deployment, labelSelector: app.kubernetes.io/component=runner}}
    patch: |
      - op: add
        path: /spec/template/spec/containers/0/env/-
        value: {{name: CHATVLM_CATALOG, value: /catalog/models.toml}}
"""


def write_manifests(catalog: Path, folder: Path) -> None:
    """Writes an overlay into a folder: `kubectl apply --kustomize FOLDER` applies it.

    catalog: the file of `CHATVLM_CATALOG`, whose models are in `CATALOG`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    added = [model for model in CATALOG if not is_built_in(model)]
    for model in added:
        (folder / model).mkdir(exist_ok=True)
        text = _MODEL.format(name=_name(model), model=model, base=_relative(folder / model))
        (folder / model / "kustomization.yaml").write_text(text)
    shutil.copyfile(catalog, folder / "models.toml")
    text = _ALL.format(
        base=_relative(folder),
        resources="\n".join(f"  - {model}" for model in added),
        models=",".join(CATALOG),
        remote=",".join(f"{model}=http://{_name(model)}-runner:8000" for model in CATALOG),
    )
    (folder / "kustomization.yaml").write_text(text)


def _name(model: str) -> str:
    """Kubernetes' names have no underscore."""
    return model.replace("_", "-")


def _relative(folder: Path) -> str:
    return os.path.relpath(BASE, folder)
