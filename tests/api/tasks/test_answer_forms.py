import json

import pytest

from api.intake.wrong_parameters import BadParameter
from api.schemas.openai import CompletionRequest
from api.tasks.answer_forms import constraint_of, toolbox_of
from common.messages import Constraint

SCHEMA = {"type": "object", "properties": {"total": {"type": "number"}}, "required": ["total"]}
UNHELD = {"type": "object", "properties": {"a": {"not": {"const": 1}}}}
FAULTY = {"type": "object", "properties": {"a": {"type": "money"}}}


def asked(**fields: object) -> CompletionRequest:
    message = {"role": "user", "content": "What?"}
    return CompletionRequest.model_validate({"model": "m", "messages": [message], **fields})


def json_schema(schema: dict, **more: object) -> dict:
    return {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema, **more}}


def tool(name: str = "weather", **more: object) -> dict:
    return {"type": "function", "function": {"name": name, **more}}


def named(name: str) -> dict:
    return {"type": "function", "function": {"name": name}}


@pytest.mark.parametrize(
    ("fields", "kind", "text"),
    [
        ({"response_format": {"type": "json_object"}}, "json", '{"type": "object"}'),
        ({"response_format": json_schema(SCHEMA, strict=True)}, "json", json.dumps(SCHEMA)),
        ({"structured_outputs": {"json": SCHEMA}}, "json", json.dumps(SCHEMA)),
        ({"structured_outputs": {"json": json.dumps(SCHEMA)}}, "json", json.dumps(SCHEMA)),
        ({"structured_outputs": {"json_object": True}}, "json", '{"type": "object"}'),
        ({"structured_outputs": {"regex": "a+"}}, "regex", "a+"),
        ({"structured_outputs": {"choice": ["a", "b"]}}, "choice", '["a", "b"]'),
        ({"structured_outputs": {"grammar": 'start: "a"'}}, "grammar", 'start: "a"'),
        ({"guided_json": SCHEMA}, "json", json.dumps(SCHEMA)),
        ({"guided_regex": "a+"}, "regex", "a+"),
        ({"guided_choice": ["a"]}, "choice", '["a"]'),
        ({"guided_grammar": 'root ::= "a"'}, "grammar", 'root ::= "a"'),
    ],
)
def test_each_form_becomes_a_constraint(fields, kind, text):
    assert constraint_of(asked(**fields)) == Constraint(kind=kind, text=text)


@pytest.mark.parametrize("fields", [{}, {"response_format": {"type": "text"}}])
def test_text_is_not_held_to_anything(fields):
    assert constraint_of(asked(**fields)) is None


def test_a_schema_that_is_not_strict_may_have_what_cannot_be_held_to():
    held = constraint_of(asked(response_format=json_schema(UNHELD)))
    assert held is not None
    assert held.lenient


@pytest.mark.parametrize(
    ("fields", "param", "words"),
    [
        (
            {"response_format": json_schema(UNHELD, strict=True)},
            "response_format.json_schema.schema",
            "at '/properties/a' of the schema, an answer cannot be held to the keywords not",
        ),
        (
            {"response_format": json_schema(FAULTY)},
            "response_format.json_schema.schema",
            "at '/properties/a' of the schema, invalid type: money",
        ),
        ({"structured_outputs": {"json": FAULTY}}, "structured_outputs.json", "/properties/a"),
        ({"structured_outputs": {"json": "{"}}, "structured_outputs.json", "not valid JSON"),
        ({"guided_json": "[]"}, "guided_json", "has to be a JSON schema"),
        ({"structured_outputs": {"regex": "(a"}}, "structured_outputs.regex", "regex"),
        ({"guided_grammar": "start: nothing"}, "guided_grammar", "nothing"),
        (
            {"response_format": {"type": "json_object"}, "guided_regex": "a"},
            "guided_regex",
            "'response_format' and 'guided_regex' exclude each other",
        ),
    ],
)
def test_a_form_that_cannot_be_held_to_is_refused_by_name_and_place(fields, param, words):
    with pytest.raises(BadParameter, match=words) as raised:
        constraint_of(asked(**fields))
    assert raised.value.param == param
    assert str(raised.value).count("\n") == 0


def test_tools_may_be_called_but_need_not():
    box = toolbox_of(asked(tools=[tool(), tool("time", parameters=SCHEMA, strict=True)]))
    assert box is not None
    assert box.callable == ("weather", "time")
    assert (box.required, box.parallel) == (False, True)
    assert box.tools[1].parameters == SCHEMA
    assert [one.strict for one in box.tools] == [False, True]


def test_a_required_call_and_one_of_a_named_tool():
    tools = [tool(), tool("time")]
    required = toolbox_of(asked(tools=tools, tool_choice="required", parallel_tool_calls=False))
    assert required is not None
    assert (required.required, required.parallel) == (True, False)
    single = toolbox_of(asked(tools=tools, tool_choice=named("time")))
    assert single is not None
    assert (single.callable, single.required, single.parallel) == (("time",), True, False)
    assert len(single.tools) == 2


@pytest.mark.parametrize(
    "fields",
    [{}, {"tools": []}, {"tools": [tool()], "tool_choice": "none"}, {"tool_choice": "auto"}],
)
def test_without_tools_nothing_is_called(fields):
    assert toolbox_of(asked(**fields)) is None


@pytest.mark.parametrize(
    ("fields", "param", "words"),
    [
        ({"tools": [tool(), tool()]}, "tools.1", "several tools named 'weather'"),
        ({"tools": [tool()], "tool_choice": named("time")}, "tool_choice", "no tool is 'time'"),
        ({"tool_choice": "required"}, "tool_choice", "send 'tools'"),
        (
            {"tools": [tool(parameters=FAULTY)]},
            "tools.0.function.parameters",
            "/properties/a",
        ),
        (
            {"tools": [tool(), tool("b", parameters=UNHELD, strict=True)]},
            "tools.1.function.parameters",
            "/properties/a",
        ),
        (
            {"tools": [tool(parameters={"type": "string"}, strict=True)]},
            "tools.0.function.parameters",
            "has to be an object",
        ),
    ],
)
def test_tools_that_cannot_be_called_are_refused_by_name_and_place(fields, param, words):
    with pytest.raises(BadParameter, match=words) as raised:
        toolbox_of(asked(**fields))
    assert raised.value.param == param
