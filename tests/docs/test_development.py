"""docs/development.md names every folder of the project, and where to make a change."""

import re
from collections.abc import Iterator

import pytest

from tests.support.markdown import sections, table_rows
from tests.support.server import ROOT

DOCUMENT = sections("docs/development.md")
CHANGES = {row[0]: row for row in table_rows(DOCUMENT["To change something"])}
MAIN_FILES = {
    "a new size of a known model": ["common/catalog.py"],
    "a new family of models": ["runners/families/", "common/catalog.py"],
    "a route": ["api/routes/", "api/app.py"],
    "how many requests are accepted": [
        "api/dependencies/admission.py",
        "runners/vlm/engine.py",
        "runners/reader/engine.py",
    ],
    "a metric": ["runners/metrics.py"],
    "a setting": ["settings.py"],
    "an API key": ["api/app.py"],
    "an output format": ["api/formats/"],
    "how a PDF is drawn": ["api/documents/rasteriser_program.py"],
    "a command of `chatvlm`": ["client/chatvlm_client/cli.py"],
}
"""The ten changes that a newcomer was asked for, and what must be named first for each."""
NAME_OF_PATH = re.compile(r"`([A-Za-z_.]+)` (?:of|in) `([\w./]+\.\w+)`")
"""A name, and the file that has it: `SAYS` in `tests/support/server.py`."""


def code_folders() -> Iterator[tuple[str, ...]]:
    """The folders above each source file, from the root of the project."""
    for path in ROOT.rglob("*"):
        *folders, name = path.relative_to(ROOT).parts
        hidden = any(folder.startswith((".", "__")) for folder in folders)
        if folders and not hidden and name.endswith((".py", ".js")):
            yield tuple(folders)


def paths(text: str) -> set[str]:
    """The files and folders that a text names in backticks."""
    return {path for path in re.findall(r"`([^`\s]+)`", text) if "/" in path and path[0] != "/"}


def test_every_folder_of_the_code_is_in_the_layout() -> None:
    tops = {folders[0] for folders in code_folders()}
    packages = {"/".join(folders[:2]) for folders in code_folders() if folders[1:]}
    parts = {package for package in packages if package.startswith(("api/", "runners/"))}
    listed = {cell for row in table_rows(DOCUMENT["Layout"]) for cell in row[0].split(", ")}
    assert {f"`{folder}/`" for folder in tops | parts} <= listed


@pytest.mark.parametrize("folder", ["common", "api"])
def test_every_file_that_stands_in_no_subfolder_is_in_the_layout(folder: str) -> None:
    files = {f"{folder}/{path.name}" for path in (ROOT / folder).glob("*.py")}
    assert files - {f"{folder}/__init__.py"} <= paths(DOCUMENT["Layout"])


@pytest.mark.parametrize("subject", MAIN_FILES)
def test_each_change_has_a_row_that_begins_with_its_files(subject: str) -> None:
    _, edit, _ = CHANGES[subject]
    named = re.findall(r"`([^`]+)`", edit)
    assert set(MAIN_FILES[subject]) <= set(named)


@pytest.mark.parametrize("subject", CHANGES)
def test_what_a_row_names_exists(subject: str) -> None:
    """The paths, and the names that a row says are in a file."""
    row = " ".join(CHANGES[subject])
    assert [path for path in paths(row) if not (ROOT / path).exists()] == []
    for name, path in NAME_OF_PATH.findall(row):
        assert name.rpartition(".")[2] in (ROOT / path).read_text("utf-8")


def test_the_rows_name_what_is_in_the_files() -> None:
    """The pattern finds the names at all."""
    row = " ".join(CHANGES["a new size of a known model"])
    assert {name for name, _ in NAME_OF_PATH.findall(row)} >= {"_MAKERS", "SAYS"}


def test_the_tests_are_in_the_folders_of_the_code() -> None:
    """A test file for one source file is where that file is; others are in those folders too."""
    for top in ("api", "commands", "common", "runners"):
        for test in (ROOT / "tests" / top).rglob("test_*.py"):
            assert (ROOT / top / test.relative_to(ROOT / "tests" / top).parent).is_dir(), test
