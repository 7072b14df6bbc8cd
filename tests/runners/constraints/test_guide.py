import pytest

from common.constraints.json_schemas import schema_grammar
from common.failures import ErrorCode, Refusal
from runners.constraints.guide import Guide
from tests.support.models.text_vlm import TextVlm


@pytest.fixture(scope="module")
def vocabulary():
    return TextVlm().vocabulary


def test_it_is_complete_once_nothing_may_follow(vocabulary):
    guide = Guide(vocabulary, schema_grammar({"const": [1]}))
    for token in b"[1]":
        assert not guide.is_complete
        guide.take(token)
    assert guide.is_complete
    assert not guide.has_failed


def test_it_is_not_complete_where_more_may_follow(vocabulary):
    guide = Guide(vocabulary, schema_grammar({"type": "integer"}))
    guide.take(ord("1"))
    assert not guide.is_complete


def test_a_token_that_was_not_allowed_fails_it_and_does_not_complete_it(vocabulary):
    guide = Guide(vocabulary, schema_grammar({"const": 1}))
    guide.take(ord("x"))
    assert guide.has_failed
    assert not guide.is_complete


def test_a_grammar_beyond_the_limits_is_refused(vocabulary):
    names = [f"name{number}" for number in range(1000)]
    each = {"type": "string", "enum": [f"value{number}" for number in range(50)]}
    schema = {
        "type": "object",
        "properties": dict.fromkeys(names, each),
        "required": names,
    }
    with pytest.raises(Refusal, match="make it simpler") as raised:
        Guide(vocabulary, schema_grammar(schema))
    assert raised.value.code is ErrorCode.BAD_PARAMETER
