"""docs/development.md names every folder of the project, and where to make a change."""

from collections.abc import Iterator

from tests.support.markdown import sections, table_rows
from tests.support.server import ROOT

DOCUMENT = sections("docs/development.md")
CHANGES = 10


def code_folders() -> Iterator[tuple[str, ...]]:
    """The folders above each source file, from the root of the project."""
    for path in ROOT.rglob("*"):
        *folders, name = path.relative_to(ROOT).parts
        hidden = any(folder.startswith((".", "__")) for folder in folders)
        if folders and not hidden and name.endswith((".py", ".js")):
            yield tuple(folders)


def test_every_folder_of_the_code_is_in_the_layout() -> None:
    tops = {folders[0] for folders in code_folders()}
    packages = {"/".join(folders[:2]) for folders in code_folders() if folders[1:]}
    parts = {package for package in packages if package.startswith(("api/", "runners/"))}
    listed = {cell for row in table_rows(DOCUMENT["Layout"]) for cell in row[0].split(", ")}
    assert {f"`{folder}/`" for folder in tops | parts} <= listed


def test_the_ten_changes_are_told() -> None:
    rows = table_rows(DOCUMENT["To change something"])
    assert len(rows) == CHANGES
    assert all("`" in edit for _, edit, _ in rows)
