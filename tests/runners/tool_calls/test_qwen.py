import json

import pytest

from common.messages import Constraint, Tool, Toolbox
from runners.constraints.guide import Guide
from runners.tool_calls.qwen import call_grammar
from tests.support.models.text_vlm import TextVlm

WEATHER = Tool(
    name="weather",
    description="The weather",
    parameters={
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"],
        "additionalProperties": False,
    },
)
TIME = Tool(name="time", description=None, parameters={})
KAZAN = '<tool_call>\n{"name": "weather", "arguments": {"city": "Kazan"}}\n</tool_call>'
NOW = '<tool_call>\n{"name": "time", "arguments": {}}\n</tool_call>'


@pytest.fixture(scope="module")
def vocabulary():
    return TextVlm().vocabulary


def fits(vocabulary, text: str, schema: dict | None = None, **changes) -> bool:
    changes = {"tools": (WEATHER, TIME), "callable": ("weather", "time"), **changes}
    held = Constraint(kind="json", text=json.dumps(schema)) if schema else None
    matcher = Guide(vocabulary, call_grammar(Toolbox(**changes), held, vocabulary)).matcher
    data = list(text.encode())
    return matcher.try_consume_tokens(data) == len(data) and matcher.is_accepting()


@pytest.mark.parametrize(
    "text",
    ["", "No call: {", KAZAN, f"I ask.\n{KAZAN}", f"{KAZAN}\n{NOW}", f"{KAZAN}\nDone.", "a < b"],
)
def test_by_itself_the_model_chooses_between_text_and_calls(vocabulary, text):
    assert fits(vocabulary, text)


@pytest.mark.parametrize(
    "text",
    [
        KAZAN.replace("Kazan", 'Kazan", "more": "'),
        KAZAN.replace('"Kazan"', "1"),
        KAZAN.replace("weather", "nothing"),
        KAZAN.removesuffix("</tool_call>"),
        "<tool_call>\nwords\n</tool_call>",
    ],
)
@pytest.mark.parametrize("required", [False, True])
def test_a_call_fits_the_schema_of_its_function(vocabulary, text, required):
    assert not fits(vocabulary, text, required=required)


def test_a_required_call_is_nothing_but_calls(vocabulary):
    assert fits(vocabulary, KAZAN, required=True)
    assert fits(vocabulary, f"{NOW}\n{KAZAN}", required=True)
    assert not fits(vocabulary, "", required=True)
    assert not fits(vocabulary, f"Well. {KAZAN}", required=True)


@pytest.mark.parametrize("required", [False, True])
def test_no_second_call_where_calls_are_not_parallel(vocabulary, required):
    assert fits(vocabulary, KAZAN, required=required, parallel=False)
    assert not fits(vocabulary, f"{KAZAN}\n{NOW}", required=required, parallel=False)


def test_only_what_may_be_called_is_called(vocabulary):
    assert fits(vocabulary, NOW, required=True, callable=("time",))
    assert not fits(vocabulary, KAZAN, required=True, callable=("time",))
    assert not fits(vocabulary, KAZAN, callable=("time",))


def test_an_answer_without_a_call_may_have_a_schema(vocabulary):
    schema = {"const": {"a": 1}}
    assert fits(vocabulary, '{"a": 1}', schema)
    assert fits(vocabulary, KAZAN, schema)
    assert not fits(vocabulary, "words", schema)
    assert not fits(vocabulary, '{"a": 1}', schema, required=True)


def test_what_a_lenient_schema_cannot_be_held_to_is_passed_over(vocabulary):
    tool = Tool(name="weather", description=None, parameters={"not": {"required": ["x"]}})
    assert fits(vocabulary, KAZAN, tools=(tool,), callable=("weather",))


def test_names_of_any_letters_are_quoted(vocabulary):
    tool = Tool(name='a"b\n', description=None, parameters={})
    text = NOW.replace('"time"', json.dumps(tool.name))
    assert fits(vocabulary, text, tools=(tool,), callable=(tool.name,))
