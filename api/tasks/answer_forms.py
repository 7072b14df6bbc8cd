"""What a chat completion asks its answer to be held to: a form, and functions to call."""

import json
from collections.abc import Iterator
from typing import Any

from pydantic_core import from_json

from api.intake.wrong_parameters import BadParameter
from api.schemas.openai import CompletionRequest
from api.schemas.structured import (
    FunctionTool,
    JsonObjectFormat,
    JsonSchemaFormat,
    NamedTool,
    StructuredOutputs,
)
from common.constraints.grammars import BadConstraint, check
from common.messages import Constraint, Tool, Toolbox

_OBJECT = Constraint(kind="json", text=json.dumps({"type": "object"}))


def constraint_of(asked: CompletionRequest) -> Constraint | None:
    """What the text of the answer is held to, if anything; checking it takes time.

    Raises `BadParameter` if it cannot be held to, or if more than one form is asked for.
    """
    forms = dict(_forms(asked))
    if not forms:
        return None
    if len(forms) > 1:
        first, second, *_ = forms
        raise BadParameter(second, f"Parameters '{first}' and '{second}' exclude each other.")
    [(param, constraint)] = forms.items()
    _check(param, constraint)
    return constraint


def toolbox_of(asked: CompletionRequest) -> Toolbox | None:
    """The functions that the answer may call; None if it may call none. Checking them takes time.

    Raises `BadParameter` if a schema cannot be held to, or if `tool_choice` names no function.
    """
    choice = asked.tool_choice or "auto"
    tools = tuple(_tool(number, tool) for number, tool in enumerate(asked.tools or ()))
    names = [tool.name for tool in tools]
    for number, name in enumerate(names):
        if name in names[:number]:
            raise BadParameter(f"tools.{number}", f"There are several tools named '{name}'.")
    if choice == "required" and not tools:
        raise BadParameter("tool_choice", "Parameter 'tool_choice': send 'tools' to choose from.")
    if isinstance(choice, NamedTool):
        name = choice.function.name
        if name not in names:
            raise BadParameter("tool_choice", f"Parameter 'tool_choice': no tool is '{name}'.")
        return Toolbox(tools=tools, callable=(name,), required=True, parallel=False)
    if not tools or choice == "none":
        return None
    return Toolbox(
        tools=tools,
        callable=tuple(names),
        required=choice == "required",
        parallel=asked.parallel_tool_calls is not False,
    )


def _forms(asked: CompletionRequest) -> Iterator[tuple[str, Constraint]]:
    """Each form that the request has, with the name of its parameter."""
    match asked.response_format:
        case JsonObjectFormat():
            yield "response_format", _OBJECT
        case JsonSchemaFormat(json_schema=named):
            text = json.dumps(named.schema_)
            constraint = Constraint(kind="json", text=text, lenient=not named.strict)
            yield "response_format.json_schema.schema", constraint
    outputs = asked.structured_outputs or StructuredOutputs()
    if outputs.json_object:
        yield "structured_outputs.json_object", _OBJECT
    for name, schema in {
        "structured_outputs.json": outputs.json_,
        "guided_json": asked.guided_json,
    }.items():
        if schema is not None:
            yield name, Constraint(kind="json", text=_schema_text(name, schema))
    for name, regex in {
        "structured_outputs.regex": outputs.regex,
        "guided_regex": asked.guided_regex,
    }.items():
        if regex is not None:
            yield name, Constraint(kind="regex", text=regex)
    for name, choice in {
        "structured_outputs.choice": outputs.choice,
        "guided_choice": asked.guided_choice,
    }.items():
        if choice is not None:
            yield name, Constraint(kind="choice", text=json.dumps(choice))
    for name, grammar in {
        "structured_outputs.grammar": outputs.grammar,
        "guided_grammar": asked.guided_grammar,
    }.items():
        if grammar is not None:
            yield name, Constraint(kind="grammar", text=grammar)


def _schema_text(param: str, schema: dict[str, Any] | str) -> str:
    """The JSON text of a schema, which vLLM takes as text too."""
    if isinstance(schema, str):
        try:
            schema = from_json(schema)
        except ValueError:
            raise BadParameter(param, f"Parameter '{param}' is not valid JSON.") from None
        if not isinstance(schema, dict):
            raise BadParameter(param, f"Parameter '{param}' has to be a JSON schema, an object.")
    return json.dumps(schema)


def _tool(number: int, tool: FunctionTool) -> Tool:
    asked = tool.function
    param = f"tools.{number}.function.parameters"
    schema = {"type": "object"} | asked.parameters
    if schema["type"] != "object":
        raise BadParameter(param, f"Parameter '{param}': the schema's type has to be an object.")
    _check(param, Constraint(kind="json", text=json.dumps(schema), lenient=not asked.strict))
    return Tool(
        name=asked.name,
        description=asked.description,
        parameters=asked.parameters,
        strict=asked.strict,
    )


def _check(param: str, constraint: Constraint) -> None:
    try:
        check(constraint)
    except BadConstraint as error:
        raise BadParameter(param, f"Parameter '{param}': {error}.") from error
