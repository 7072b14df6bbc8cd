"""The project's documents: their examples, tables and links."""

import re
from pathlib import Path

from tests.support.server import ROOT

DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
DOCUMENTS += [ROOT / "client/README.md", ROOT / "deploy/README.md"]
GUIDE = ROOT / "docs/rest_api_guide.md"
"""The users' guide, which stays as the users have it."""
_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def read(name: str) -> str:
    """The text of a document, named from the root of the project."""
    return (ROOT / name).read_text("utf-8")


def sections(name: str) -> dict[str, str]:
    """The text below each heading of the second level."""
    _, *parts = re.split(r"^## ", read(name), flags=re.MULTILINE)
    return dict(part.split("\n", 1) for part in parts)


def examples(text: str) -> list[tuple[str, str]]:
    """Language and code of each fenced block."""
    return _BLOCK.findall(text)


def without_examples(text: str) -> str:
    return _BLOCK.sub("", text)


def links(path: Path) -> list[str]:
    """Targets of the links and pictures of a document, without those of other hosts."""
    targets: list[str] = re.findall(r"\]\(([^)\s]+)\)", without_examples(path.read_text("utf-8")))
    return [target for target in targets if not target.startswith(("http://", "https://"))]


def anchors(path: Path) -> set[str]:
    """The names under which GitHub links to the headings of a document."""
    headings = re.findall(r"^#+ (.+)$", without_examples(path.read_text("utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def table_rows(text: str) -> list[list[str]]:
    """The cells of every table row, without heads and rulers."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    rulers = {number for number, line in enumerate(lines) if set(line) <= set("|- ")}
    heads = {number - 1 for number in rulers}
    return [
        [cell.strip() for cell in line.strip("|").split("|")]
        for number, line in enumerate(lines)
        if number not in rulers | heads
    ]
