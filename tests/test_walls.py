"""The walls of the house: who may import what, and when."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

from runners.catalog import CATALOG

ROOT = Path(__file__).parent.parent
HEAVY = {"torch", "torchvision", "transformers", "accelerate", "tesserocr"}


def imports(path: Path) -> set[str]:
    """Full names of all that a file imports, wherever in it: "runners.messages.Refusal"."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"a relative import in {path.name}"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def files(folder: str) -> list:
    return [pytest.param(path, id=path.name) for path in sorted((ROOT / folder).glob("*.py"))]


@pytest.mark.parametrize("path", files("api"))
def test_the_gateway_knows_of_runners_only_messages_images_and_the_catalog(path):
    own = {tuple(name.split(".")[:2]) for name in imports(path) if name.startswith("runners")}
    known = {("runners", name) for name in ("messages", "images", "catalog")}
    assert own <= known


@pytest.mark.parametrize("path", files("api"))
def test_the_gateway_imports_nothing_that_runs_a_model(path):
    assert not {name.split(".")[0] for name in imports(path)} & HEAVY


@pytest.mark.parametrize("path", files("runners"))
def test_runners_know_no_gateway_and_no_web_framework(path):
    assert not {name.split(".")[0] for name in imports(path)} & {"api", "service", "fastapi"}


def test_the_batcher_knows_no_image_no_http_and_no_family():
    known = {entry.family for entry in CATALOG.values()} | {"images", "PIL", "starlette", "aiohttp"}
    parts = {part for name in imports(ROOT / "runners/batcher.py") for part in name.split(".")}
    assert not parts & known


def test_an_idle_service_has_imported_no_library_that_runs_a_model():
    """Neither the gateway nor any runner's engine before its first request."""
    program = f"""
import asyncio, pkgutil, sys
import service
from runners.catalog import CATALOG
from settings import settings

async def idle():
    engines = [pkgutil.resolve_name(entry.engine)(entry, settings()) for entry in CATALOG.values()]
    for engine in engines:
        await engine.status()
    print("imported:", *sorted({HEAVY!r} & sys.modules.keys()))
    for engine in engines:
        await engine.close()

asyncio.run(idle())
"""
    run = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env={**os.environ, "HF_HUB_OFFLINE": "1", "BENTOML_DO_NOT_TRACK": "True"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert run.returncode == 0, run.stderr
    assert "imported:\n" in run.stdout
