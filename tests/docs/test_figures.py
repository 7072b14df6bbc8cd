"""Every figure of docs/figures.md has its command and its date."""

import re
from importlib.util import find_spec

import pytest

from tests.support.markdown import sections

BY_HAND = "Single measurements"
SECTIONS = sections("docs/figures.md")
DATE = r"\d{4}-\d\d-\d\d"
COMMAND = re.compile(rf"^`\.venv/bin/python -m (benchmarks\.\w+)[^`]*`, {DATE}$", re.MULTILINE)


@pytest.mark.parametrize("section", SECTIONS.keys() - {BY_HAND})
def test_a_section_names_its_command_and_date(section: str) -> None:
    [module] = COMMAND.findall(SECTIONS[section])
    assert find_spec(module)


def test_a_measurement_by_hand_has_its_date() -> None:
    rows = [line for line in SECTIONS[BY_HAND].splitlines() if line.startswith("| ")][1:]
    assert all(re.search(rf"\| {DATE} \|$", row) for row in rows)
