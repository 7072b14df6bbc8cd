"""The figures of the embedded reader."""

import sys
from pathlib import Path

import pytest

from benchmarks import ocr


def test_a_folder_without_its_list_of_phrases_is_refused_in_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["ocr", "--samples", str(tmp_path)])
    with pytest.raises(SystemExit) as ended:
        ocr.main()
    assert ended.value.code == 2
    assert "DIR needs a file phrases.json: see benchmarks/support/samples.py" in (
        capsys.readouterr().err
    )
