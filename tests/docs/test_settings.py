"""The README is for its users: what it says of the service is held to the service."""

from pathlib import Path

import pytest
from pydantic.fields import FieldInfo

from common.catalog import CATALOG
from settings import Settings

README = (Path(__file__).parents[2] / "README.md").read_text()


def row(name: str, field: FieldInfo) -> str:
    default = "" if field.default_factory or field.default in (None, (), {}) else field.default
    return f"| `CHATVLM_{name.upper()}` | {default} | {field.description} |"


@pytest.mark.parametrize("name", Settings.model_fields)
def test_every_setting_is_listed_with_its_default(name: str) -> None:
    assert row(name, Settings.model_fields[name]) in README


@pytest.mark.parametrize("model", CATALOG)
def test_every_model_is_listed(model: str) -> None:
    assert f"| `{model}` | {CATALOG[model].name} |" in README
