"""The form in which Qwen's models call functions, which is that of the Hermes models.

<tool_call>
{"name": "weather", "arguments": {"city": "Kazan"}}
</tool_call>
"""

import json
import re

from llguidance import LLMatcher, LLTokenizer

from common.constraints.json_schemas import with_options
from common.messages import Constraint, Toolbox

OPENING = "<tool_call>"
CLOSING = "</tool_call>"
HEAD = re.compile(r'\s*\{\s*"name":\s*("(?:[^"\\]|\\.)*"),\s*"arguments":\s*(?=\{)')
"""What is between the opening and the arguments; a call is `OPENING HEAD arguments } CLOSING`."""


def call_grammar(toolbox: Toolbox, text: Constraint | None, vocabulary: LLTokenizer) -> str:
    """The grammar of answers that may call functions, or have to.

    text: the JSON schema of an answer that calls none; None if that may be any text.
    """
    tools = [tool for tool in toolbox.tools if tool.name in toolbox.callable]
    rules = [f"call_{number}" for number in range(len(tools))]
    opening, closing = _mark(OPENING, vocabulary), _mark(CLOSING, vocabulary)
    lines = ["%llguidance {}", f'body: "\\n" ({" | ".join(rules)}) "}}\\n" {closing}']
    if toolbox.required or text is not None:
        calls = 'call ("\\n" call)*' if toolbox.parallel else "call"
        if not toolbox.required and text is not None:
            schema = with_options(json.loads(text.text), text.lenient)
            calls = f"{calls} | text"
            lines.append(f"text: %json {json.dumps(schema)}")
        lines += [f"start: {calls}", f"call: {opening} body"]
    else:
        free = "(before body)* TEXT" if toolbox.parallel else "before body | TEXT"
        lines += [f"start: {free}", "TEXT: /(.|\\n)*/"]
        if opening == OPENING:
            lines.append(f"before: TEXT {opening}")
        else:  # the first opening ends the text, so that no call is taken for text
            lines.append(f"before[lazy]: /(.|\\n)*{re.escape(OPENING)}/")
    for rule, tool in zip(rules, tools, strict=True):
        head = f'{{"name": {json.dumps(tool.name)}, "arguments": '
        schema = with_options({"type": "object"} | tool.parameters, lenient=not tool.strict)
        lines.append(f"{rule}: {_quoted(head)} %json {json.dumps(schema)}")
    return str(LLMatcher.grammar_from_lark("\n".join(lines)))


def _mark(text: str, vocabulary: LLTokenizer) -> str:
    """A mark in a grammar: as the token that it is, or else as text."""
    tokens = vocabulary.tokenize_str(text, parse_special=True)
    is_token = len(tokens) == 1 and vocabulary.is_special_token(tokens[0])
    return text if is_token else _quoted(text)


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
