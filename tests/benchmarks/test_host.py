"""The measurement of the host's work, on few steps."""

import sys

import pytest

from benchmarks import host


def test_it_prints_the_time_of_a_row_for_each_number_of_rows(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["host"])
    monkeypatch.setattr(host, "_STEPS", 20)
    monkeypatch.setattr(host, "_ROWS", (1, 3))
    host.main()
    *_, one, three = capsys.readouterr().out.splitlines()
    for line, rows in ((one, 1), (three, 3)):
        cells = [float(cell) for cell in line.strip("|").split("|")]
        assert cells[0] == rows
        assert all(0 < microseconds < 100_000 for microseconds in cells[1:])
