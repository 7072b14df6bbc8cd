import json

import pytest

from common.constraints.fitting import fits
from common.messages import Constraint


@pytest.mark.parametrize(
    ("text", "whether"),
    [
        ('{"a": 1}', True),
        ('{"a": "1"}', False),
        ('{"a": 1', False),
        ('{"a": 1} ', False),
        ("", False),
    ],
)
def test_json(text, whether):
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
    assert fits(Constraint(kind="json", text=json.dumps(schema)), text) is whether


def test_other_forms():
    assert fits(Constraint(kind="choice", text='["да", "нет"]'), "да")
    assert not fits(Constraint(kind="regex", text="[0-9]+"), "12a")


def test_a_schema_with_a_fault_is_fitted_by_nothing():
    assert not fits(Constraint(kind="json", text='{"type": "foo"}'), "1")
