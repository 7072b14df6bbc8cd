"""Turns functions and their calls into what chat templates write as JSON."""

import re
from typing import Any

from common.messages import Tool, ToolCall

_SHIELD = "\ufdd0"
"""A noncharacter, which no text has. It stands within the name of each special token that a text
holds, so that it is not taken for the token."""


def definition(tool: Tool, specials: re.Pattern[str]) -> dict[str, Any]:
    """A function as a chat template takes it. specials: what no text may be taken for."""
    described = {"description": tool.description} if tool.description else {}
    function = {"name": tool.name, **described, "parameters": tool.parameters}
    return {"type": "function", "function": _shielded(function, specials)}


def call(made: ToolCall, specials: re.Pattern[str]) -> dict[str, Any]:
    """A call of a function as a chat template takes it. specials: as for `definition`."""
    function = {"name": made.name, "arguments": made.arguments}
    return {"type": "function", "function": _shielded(function, specials)}


def unshielded(text: str) -> str:
    """A text that the template has written, as it was before."""
    return text.replace(_SHIELD, "")


def _apart(found: re.Match[str]) -> str:
    """What stands for a special token; a single character, which is a slot's, is left out."""
    name = found[0]
    return f"{name[0]}{_SHIELD}{name[1:]}" if len(name) > 1 else ""


def _shielded(value: Any, specials: re.Pattern[str]) -> Any:
    """A JSON value whose texts cannot pass for special tokens."""
    match value:
        case str():
            return specials.sub(_apart, value)
        case dict():
            return {_shielded(k, specials): _shielded(v, specials) for k, v in value.items()}
        case list():
            return [_shielded(part, specials) for part in value]
    return value
