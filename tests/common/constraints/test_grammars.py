import json

import pytest

from common.constraints.grammars import BadConstraint, check
from common.messages import Constraint

SOUND = [
    Constraint(kind="json", text=json.dumps({"type": "object"})),
    Constraint(kind="regex", text="[0-9]{3}"),
    Constraint(kind="choice", text=json.dumps(["yes", 'a "no"', "\n", "да", ""])),
    Constraint(kind="choice", text=json.dumps([chr(code) for code in range(256)])),
    Constraint(kind="grammar", text='start: "a" | "b"'),
    Constraint(kind="grammar", text='root ::= "a" | "b"'),
]


@pytest.mark.parametrize("constraint", SOUND, ids=lambda one: one.text)
def test_a_sound_constraint_passes(constraint):
    check(constraint)


@pytest.mark.parametrize(
    ("constraint", "words"),
    [
        (
            Constraint(kind="json", text='{"properties": {"a": {"type": "foo"}}}'),
            "at '/properties/a' of the schema, invalid type: foo",
        ),
        (Constraint(kind="json", text='{"type": "foo"}'), "at '/' of the schema"),
        (Constraint(kind="regex", text="(a"), "it is no regular expression: unclosed group"),
        (Constraint(kind="regex", text=r"(a)\1"), "backreferences are not supported"),
        (Constraint(kind="regex", text="a$b"), "lookarounds not supported"),
        (Constraint(kind="json", text='{"const": 9007199254740993}'), "at '/' of the schema"),
        (Constraint(kind="grammar", text="start: nothing"), "nothing"),
        (Constraint(kind="grammar", text="root ::= (("), "GBNF"),
    ],
)
def test_a_faulty_one_is_refused_in_one_line(constraint, words):
    with pytest.raises(BadConstraint) as raised:
        check(constraint)
    assert words in str(raised.value)
    assert "\n" not in str(raised.value)
