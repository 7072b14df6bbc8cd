"""Every file and heading that a document names or links to exists."""

import re
from pathlib import Path

import pytest

from tests.support.markdown import (
    DOCUMENTS,
    GUIDE,
    anchors,
    links,
    without_examples,
)
from tests.support.server import ROOT

SUFFIXES = r"py|md|yaml|json|txt|ipynb|toml|env"
PATH = re.compile(rf"`([\w.-]+/[\w./-]*|[\w.-]+\.(?:{SUFFIXES}))`")
"""A file or folder in backticks; `/ocr` and `docs/<name>.md` are none."""
NOT_IN_THE_TREE = {
    "overlay/kustomization.yaml",
    "deploy/chatvlm.env",
    "config.json",
    "phrases.json",
    "NAME.txt",
    "NAME.gold.txt",
    "prometheus.io/scrape",
}
"""Files that the operator writes or has, and an annotation."""
HUB = re.compile(r"`[\w-]+/[\w.-]+` \|")
"""A repository of the hub in a table."""


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", DOCUMENTS, ids=name)
def test_every_relative_link_leads_somewhere(path: Path) -> None:
    for link in links(path):
        file, _, anchor = link.partition("#")
        target = (path.parent / file).resolve() if file else path
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


@pytest.mark.parametrize("path", [path for path in DOCUMENTS if path != GUIDE], ids=name)
def test_every_file_that_is_named_exists(path: Path) -> None:
    text = HUB.sub("", without_examples(path.read_text("utf-8")))
    named = set(PATH.findall(text)) - NOT_IN_THE_TREE
    folders = [ROOT, path.parent, ROOT / "deploy/kubernetes"]
    missing = [one for one in named if not any((folder / one).exists() for folder in folders)]
    assert missing == []
