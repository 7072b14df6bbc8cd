"""The most memory of the reader's processes, for two pages."""

import sys

import pytest

from benchmarks import reader_memory


@pytest.mark.skipif(sys.platform != "linux", reason="/proc has the most memory that was taken")
def test_it_prints_the_memory_of_each_page_and_of_decoding_a_large_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["reader_memory"])
    pages = {
        "small": reader_memory.file("PNG", (900, 300)),
        "large": reader_memory.file("JPEG", (3300, 3300), mode="CMYK"),
    }
    monkeypatch.setattr(reader_memory, "ORDINARY", pages)
    monkeypatch.setattr(reader_memory, "UNUSUAL", {})
    reader_memory.main()
    *_, small, large = capsys.readouterr().out.splitlines()
    name, reading, decoding = (cell.strip() for cell in small.strip("|").split("|"))
    assert (name, decoding) == ("small", "")
    assert 100 < float(reading) < 1000
    name, reading, decoding = (cell.strip() for cell in large.strip("|").split("|"))
    assert name == "large"
    assert 100 < float(reading) < 1000
    assert 80 < float(decoding) < 400  # the pixels alone take 44 MB, as CMYK and as RGB
