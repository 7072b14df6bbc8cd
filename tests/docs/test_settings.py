"""docs/settings.md is held to settings.py."""

import pytest
from pydantic.fields import FieldInfo

from settings import Settings
from tests.support.markdown import read

DOCUMENT = read("docs/settings.md")


def row(name: str, field: FieldInfo) -> str:
    default = "" if field.default_factory or field.default in (None, (), {}) else field.default
    return f"| `CHATVLM_{name.upper()}` | {default} | {field.description} |"


@pytest.mark.parametrize("name", Settings.model_fields)
def test_every_setting_is_listed_with_its_default_and_description(name: str) -> None:
    assert row(name, Settings.model_fields[name]) in DOCUMENT.splitlines()


def test_no_other_setting_is_listed() -> None:
    table = DOCUMENT.partition("\n## ")[0]
    listed = [line for line in table.splitlines() if line.startswith("| `CHATVLM_")]
    assert len(listed) == len(Settings.model_fields)
