import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from common.failures import ErrorCode, Refusal
from runners.reader import tessdata
from runners.reader.tessdata import find_tessdata
from settings import settings

MISSING = (
    "The reader's trained data is missing: "
    "put rus.traineddata into the folder that CHATVLM_TESSDATA names, or unset it."
)


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "runners.reader.tessdata", *map(str, arguments)],
        capture_output=True,
        text=True,
    )


def test_a_folder_that_is_given_is_the_only_one(tmp_path: Path) -> None:
    data = find_tessdata(settings().tessdata)
    with pytest.raises(Refusal) as refusal:
        find_tessdata(tmp_path)
    assert refusal.value.code is ErrorCode.UNAVAILABLE
    assert refusal.value.failure.detail == MISSING
    shutil.copy(data / "rus.traineddata", tmp_path)
    assert find_tessdata(tmp_path) == tmp_path


def test_without_a_folder_the_packages_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tessdata, "_usual_folders", list)
    with pytest.raises(Refusal) as refusal:
        find_tessdata(None)
    assert refusal.value.failure.detail == (
        "The reader's trained data is missing: install tesseract-ocr-rus."
    )


def test_the_folder_of_tesseracts_own_variable_comes_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "rus.traineddata").touch()
    monkeypatch.setenv("TESSDATA_PREFIX", str(tmp_path))
    assert find_tessdata(None) == tmp_path


def test_the_command_prints_where_the_data_is() -> None:
    given = os.environ.get("CHATVLM_TESSDATA", "")
    found = run(given)
    assert (found.returncode, found.stdout) == (0, f"{find_tessdata(settings().tessdata)}\n")


def test_the_command_says_what_to_install(tmp_path: Path) -> None:
    found = run(tmp_path)
    assert (found.returncode, found.stdout, found.stderr) == (1, "", f"{MISSING}\n")
