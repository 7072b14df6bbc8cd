"""The rules of the structure: which module may import which, and when."""

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
HEAVY = {
    "torch",
    "torchvision",
    "transformers",
    "accelerate",
    "tesserocr",
    "cv2",
    "openvino",
    "rapidocr",
}
MAY_IMPORT = {
    "settings": {"common"},
    "common": {"common"},
    "api": {"api", "common", "settings"},
    "runners": {"runners", "common", "settings"},
    "commands": {"commands", "runners", "common", "settings"},
    "service": {"api", "runners", "common", "settings"},
}
"""What of the project each of its top-level modules and packages may import."""
MOST_FILES = 12
"""Source files of one folder."""
SOURCES = {".py", ".js", ".css", ".html"}


def modules() -> dict[str, Path]:
    """Every module of the service, by its full name."""
    found = {}
    for top in MAY_IMPORT:
        package = ROOT / top
        for path in sorted(package.rglob("*.py")) if package.is_dir() else [ROOT / f"{top}.py"]:
            name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
            found[name.removesuffix(".__init__")] = path
    return found


MODULES = modules()


def imports(path: Path) -> set[str]:
    """Full names of all that a file imports, wherever in it: "common.messages.Answer"."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"a relative import in {path.name}"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def tops(path: Path) -> set[str]:
    return {name.partition(".")[0] for name in imports(path)}


def imported_modules(module: str) -> set[str]:
    """The modules of the service that a module imports."""
    found = set()
    for name in imports(MODULES[module]):
        while name and name not in MODULES:
            name = name.rpartition(".")[0]
        found |= {name} - {"", module}
    return found


def of(top: str) -> list:
    """The modules of a top-level module or package, as parameters."""
    return [
        pytest.param(path, id=name)
        for name, path in MODULES.items()
        if name.partition(".")[0] == top
    ]


def folders() -> Iterator[tuple[str, list[str]]]:
    """Every folder of the project, with its source files."""
    for folder, within, files in os.walk(ROOT):
        within[:] = [name for name in within if not name.startswith((".", "__"))]
        sources = [name for name in files if Path(name).suffix in SOURCES]
        if sources:
            yield os.path.relpath(folder, ROOT), sources


@pytest.mark.parametrize("path", [path for top in MAY_IMPORT for path in of(top)])
def test_a_module_imports_of_the_project_only_what_its_side_may(path):
    own = {*MAY_IMPORT, "benchmarks", "tests", "chatvlm_client"}
    assert tops(path) & own <= MAY_IMPORT[path.relative_to(ROOT).parts[0].removesuffix(".py")]


def test_no_two_modules_import_each_other_not_even_through_others():
    order = TopologicalSorter({module: imported_modules(module) for module in MODULES})
    order.prepare()


def test_no_two_folders_import_each_other_not_even_through_others():
    def place(module: str) -> str:
        """The folder of a module; a module beside the folders is a place of its own."""
        return ".".join(module.split(".")[:2])

    arrows: dict[str, set[str]] = {place(module): set() for module in MODULES}
    for module in MODULES:
        to = {place(imported) for imported in imported_modules(module)}
        arrows[place(module)] |= to - {place(module)}
    TopologicalSorter(arrows).prepare()


@pytest.mark.parametrize("path", of("api") + of("common"))
def test_the_gateway_imports_nothing_that_runs_a_model(path):
    assert not tops(path) & HEAVY


@pytest.mark.parametrize("path", of("runners"))
def test_runners_know_no_web_framework(path):
    assert not tops(path) & {"fastapi", "starlette"}


@pytest.mark.parametrize("path", of("api"))
def test_no_route_imports_another(path):
    if "routes" in path.parts and path.stem != "__init__":
        assert not {name for name in imports(path) if name.startswith("api.routes")}


@pytest.mark.parametrize(
    "module",
    ["runners.vlm.batcher", *(name for name in MODULES if name.startswith("runners.scheduling."))],
)
def test_what_batches_rows_knows_no_image_no_http_and_no_family(module):
    parts = {part for name in imports(MODULES[module]) for part in name.split(".")}
    assert not parts & {"families", "images", "PIL", "starlette", "aiohttp"}


@pytest.mark.parametrize("path", of("runners"))
def test_only_families_import_families(path):
    """What serves a model finds its family by the name in the catalog."""
    if "families" not in path.parts:
        assert not {name for name in imports(path) if name.startswith("runners.families")}


def test_scheduling_imports_neither_torch_nor_metrics():
    modules = sorted(name for name in MODULES if name.startswith("runners.scheduling."))
    program = f"""
import sys
import {", ".join(modules)}
print("imported:", *sorted({HEAVY | {"prometheus_client"}!r} & sys.modules.keys()))
"""
    run = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert run.stdout == "imported:\n", run.stderr


@pytest.mark.parametrize(
    "path", sorted((ROOT / "client").rglob("*.py")), ids=lambda path: path.stem
)
def test_the_client_needs_nothing_of_the_service(path):
    assert not tops(path) & {*MAY_IMPORT, "benchmarks", "tests"}


@pytest.mark.parametrize("path", sorted((ROOT / "tests").rglob("test_*.py")), ids=str)
def test_no_test_file_imports_another(path):
    assert not {name for name in imports(path) if ".test_" in name}


@pytest.mark.parametrize(("folder", "files"), [pytest.param(*f, id=f[0]) for f in folders()])
def test_no_folder_holds_too_many_source_files(folder, files):
    assert len(files) <= MOST_FILES


def test_an_idle_service_has_imported_no_library_that_runs_a_model():
    """Neither the gateway nor any runner's engine before its first request."""
    program = f"""
import asyncio, sys
import service
from common.catalog import CATALOG
from runners.service import engine_of
from settings import settings

async def idle():
    engines = [engine_of(entry, settings())(entry, settings()) for entry in CATALOG.values()]
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


def test_a_runner_before_an_upstream_never_imports_what_runs_a_model():
    """But OpenCV, which measures how small a page's letters become."""
    program = f"""
import asyncio, sys
from common.catalog import CATALOG
from runners.service import engine_of
import runners.upstream.growing_answer, runners.upstream.prepared
from settings import Settings

settings = Settings(upstream={{"dots_ocr": "http://127.0.0.1:1/v1"}})

async def idle():
    entry = CATALOG["dots_ocr"]
    engine = engine_of(entry, settings)(entry, settings)
    await engine.close()
    print("imported:", *sorted({HEAVY - {"cv2"}!r} & sys.modules.keys()))

asyncio.run(idle())
"""
    run = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert run.stdout == "imported:\n", run.stderr
