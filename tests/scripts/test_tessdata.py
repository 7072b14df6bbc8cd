"""The script that installs Tesseract's trained data."""

import os
import subprocess
from pathlib import Path

from tests.support.server import ROOT


def test_nothing_is_installed_if_the_setting_names_a_folder_without_the_data(
    tmp_path: Path,
) -> None:
    apt = tmp_path / "apt-get"
    apt.write_text(f"#!/bin/sh\ntouch {tmp_path}/called\n")
    apt.chmod(0o755)
    run = subprocess.run(
        [ROOT / "scripts/tessdata"],
        env={
            **os.environ,
            "PATH": f"{tmp_path}:{os.environ['PATH']}",
            "CHATVLM_TESSDATA": str(tmp_path),
        },
        capture_output=True,
        text=True,
    )
    assert run.returncode == 1
    assert run.stderr.splitlines() == [
        "The reader's trained data is missing: "
        "put rus.traineddata into the folder that CHATVLM_TESSDATA names, or unset it."
    ]
    assert not (tmp_path / "called").exists()
