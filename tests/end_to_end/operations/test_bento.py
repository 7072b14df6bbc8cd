"""The Bento: built from the project, served away from it."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.files.documents import pdf
from tests.support.pages import ENGLISH, encode, render
from tests.support.server import ROOT, Server

TESSDATA = ROOT / ".tessdata"
"""The project's own trained data, where the machine has none; a Bento brings none."""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BENTOML_HOME that holds the Bento."""
    home = tmp_path_factory.mktemp("home")
    subprocess.run(
        [sys.executable, "-m", "bentoml", "build"],
        cwd=ROOT,
        env=os.environ | {"BENTOML_HOME": str(home), "BENTOML_DO_NOT_TRACK": "True"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=True,
        timeout=300,
    )
    return home


@pytest.fixture(scope="module")
def bento(home: Path) -> Path:
    (bento,) = (folder for folder in (home / "bentos" / "chatvlmllm").iterdir() if folder.is_dir())
    return bento


@pytest.fixture(scope="module")
def served(home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    with Server(
        target="chatvlmllm:latest",
        cwd=elsewhere,
        home=home,
        models="reader",
        reader_processes=1,
        tessdata=TESSDATA if TESSDATA.is_dir() else "",
    ) as server:
        yield server


def test_it_holds_what_is_needed_to_run_and_nothing_else(bento: Path) -> None:
    source = bento / "src"
    held = {str(path.relative_to(source)) for path in source.rglob("*") if path.is_file()}
    needed = {
        str(path.relative_to(ROOT))
        for pattern in (
            "*.py",
            "common/**/*.py",
            "api/**/*.py",
            "api/playground/**/*",
            "commands/**/*.py",
            "runners/**/*.py",
            "runners/**/*.cpp",
            "runners/**/*.h",
            "requirements*.txt",
            "bentofile.yaml",
        )
        for path in ROOT.glob(pattern)
        if path.is_file()
    }
    assert held == needed - {"requirements-dev.txt", "requirements-peers.txt"}
    kernels = source / "runners" / "decoder" / "cpu_kernels"
    assert {path.suffix for path in kernels.iterdir()} == {".py", ".cpp", ".h"}


def test_its_image_has_the_readers_trained_data(bento: Path) -> None:
    dockerfile = (bento / "env" / "docker" / "Dockerfile").read_text()
    assert "tesseract-ocr-rus" in dockerfile


@pytest.mark.parametrize("file", [encode(render(ENGLISH)), pdf(ENGLISH)], ids=["PNG", "PDF"])
def test_it_reads_a_page_from_another_folder(file: bytes, served: Server) -> None:
    answer = served.client.post("/ocr", files={"file": file})
    assert answer.json()["text"] == "\n".join(ENGLISH)
