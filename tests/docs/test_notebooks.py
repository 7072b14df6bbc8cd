"""The notebooks run as they stand, and show what they say."""

import ast
from importlib import import_module
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from nbformat import NotebookNode

from tests.support.pages import ENGLISH, RUSSIAN
from tests.support.server import ROOT, Server

FOLDER = ROOT / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))


@pytest.fixture(autouse=True)
def _own_profile(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """IPython keeps its history in the home directory otherwise."""
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path))


def executed(name: str) -> NotebookNode:
    """Raises `CellExecutionError` where a cell fails."""
    notebook = nbformat.read(FOLDER / name, as_version=4)
    resources = {"metadata": {"path": FOLDER}}
    return NotebookClient(notebook, timeout=120, resources=resources).execute()


def outputs(notebook: NotebookNode) -> list[NotebookNode]:
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    return [output for cell in cells for output in cell.outputs]


def printed(notebook: NotebookNode) -> str:
    return "".join(output.text for output in outputs(notebook) if output.get("name") == "stdout")


def test_the_quickstart_shows_the_text_of_its_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    with Server(models="reader", reader_processes=1) as server:
        monkeypatch.setenv("CHATVLM_URL", str(server.client.base_url))
        notebook = executed("quickstart.ipynb")
    text = printed(notebook)
    for lines in (ENGLISH, RUSSIAN):
        assert "\n".join(lines) in text
        assert text.count(f": {lines[0]} ...") == 4  # from whichever side
    assert f"When is the next meeting?\n    {ENGLISH[-1]}" in text
    assert any("image/png" in output.get("data", {}) for output in outputs(notebook))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_what_a_notebook_imports_exists(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    cells = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    code = "\n".join(cell.removeprefix("%%capture\n") for cell in cells)
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.ImportFrom) and node.module:
            module = import_module(node.module)
            assert all(hasattr(module, alias.name) for alias in node.names), node.module


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_kept_outputs_are_of_a_whole_run(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert all(output.output_type != "error" for output in outputs(notebook))
    assert str(ROOT) not in path.read_text()
    assert path.stat().st_size < 400_000
