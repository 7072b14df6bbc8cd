import pytest

from common.constraints.json_schemas import Fault, find_fault


@pytest.mark.parametrize(
    ("schema", "place"),
    [
        ({"type": "object", "properties": {"a": {"type": "array", "items": {"not": {}}}}}, None),
        ({"type": "foo"}, ""),
        ({"properties": {"a/b~": {"type": "foo"}}}, "/properties/a~1b~0"),
        ({"anyOf": [{"type": "string"}, {"properties": 5}]}, "/anyOf/1"),
        ({"items": {"prefixItems": [{"minItems": -1}]}}, "/items/prefixItems/0"),
        ({"additionalProperties": {"$ref": "#/nowhere"}}, "/additionalProperties"),
        (
            {
                "properties": {"a": {"$ref": "#/$defs/B"}},
                "$defs": {
                    "A": {"properties": {"x": {"type": "foo"}}},
                    "B": {"items": {"$ref": "#/$defs/A"}},
                },
            },
            "/$defs/A/properties/x",
        ),
        ({"properties": {"a": 5}}, "/properties/a"),
        ({"type": "string", "minLength": 5, "maxLength": 3}, ""),
    ],
)
def test_a_fault_is_found_where_it_is(schema, place):
    fault = find_fault(schema)
    assert fault is not None
    assert fault.place == (place if place is not None else "/properties/a/items")
    assert fault.reason


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ({"type": "string", "not": {}, "if": {}}, "the keywords"),
        ({"type": "string", "pattern": "(a"}, "no regular expression: unclosed group"),
        ({"type": "string", "pattern": "(?=a)"}, "look-around"),
        ({"$ref": "https://example.com/schema"}, "other documents"),
        ({"oneOf": [{"type": "string"}, {"type": "string", "maxLength": 3}]}, "use anyOf"),
        ({"enum": []}, "unsatisfiable"),
        ({"enum": [1, 2**53 + 1]}, "are not held to exactly"),
        ({"const": {"id": -(10**30)}}, "are not held to exactly"),
        ({"items": {"maximum": 2**60}}, "are not held to exactly"),
    ],
)
def test_the_reason_is_in_plain_words(schema, words):
    fault = find_fault(schema)
    assert fault is not None
    assert words in fault.reason
    assert "\n" not in fault.reason


def test_a_schema_nested_too_deeply_is_refused_at_once():
    schema: dict = {"type": "integer"}
    for _ in range(500):
        schema = {"type": "array", "items": schema}
    assert find_fault(schema) is not None


def test_a_schema_that_refers_to_itself_is_sound():
    tree = {"type": "object", "properties": {"left": {"$ref": "#"}, "right": {"$ref": "#"}}}
    assert find_fault(tree) is None


def test_a_definition_that_refers_to_itself_ends_the_search():
    loop = {
        "items": {"$ref": "#/$defs/A"},
        "$defs": {"A": {"not": {}, "items": {"$ref": "#/$defs/A"}}},
    }
    assert find_fault(loop) == Fault("/$defs/A", "an answer cannot be held to the keywords not")


def test_lenient_passes_over_what_cannot_be_held_to():
    assert find_fault({"type": "string", "not": {"const": "a"}}, lenient=True) is None
    overlapping = {"oneOf": [{"type": "string"}, {"type": "string", "maxLength": 3}]}
    assert find_fault(overlapping, lenient=True) is None


def test_a_schema_does_not_set_the_options_of_its_grammar():
    schema = {"type": "string", "not": {}, "x-guidance": {"lenient": True}}
    assert find_fault(schema) is not None
