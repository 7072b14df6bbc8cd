"""The form in which Qwen's models call functions, which is that of the Hermes models.

<tool_call>
{"name": "weather", "arguments": {"city": "Kazan"}}
</tool_call>
"""

import json
import re

from llguidance import LLMatcher

from common.constraints.json_schemas import with_options
from common.messages import Constraint, Toolbox

OPENING = "<tool_call>"
CLOSING = "</tool_call>"
HEAD = re.compile(r'\s*\{\s*"name":\s*("(?:[^"\\]|\\.)*"),\s*"arguments":\s*(?=\{)')
"""What is between the opening and the arguments; a call is `OPENING HEAD arguments } CLOSING`."""


def call_grammar(toolbox: Toolbox, text: Constraint | None) -> str:
    """The grammar of answers that may call functions, or have to.

    text: the JSON schema of an answer that calls none; None if that may be any text.
    """
    tools = [tool for tool in toolbox.tools if tool.name in toolbox.callable]
    rules = [f"call_{number}" for number in range(len(tools))]
    end = f"}}\n{CLOSING}"
    lines = ["%llguidance {}", f'body: "\\n" ({" | ".join(rules)}) {_quoted(end)}']
    if toolbox.required or text is not None:
        calls = 'call ("\\n" call)*' if toolbox.parallel else "call"
        if not toolbox.required and text is not None:
            schema = with_options(json.loads(text.text), text.lenient)
            calls = f"{calls} | text"
            lines.append(f"text: %json {json.dumps(schema)}")
        lines += [f"start: {calls}", f"call: {_quoted(OPENING)} body"]
    else:
        # The first opening ends the text before it, so that no call is taken for text.
        free = "(opening body)* TEXT" if toolbox.parallel else "opening body | TEXT"
        lines += [
            f"start: {free}",
            f"opening[lazy]: /(.|\\n)*{re.escape(OPENING)}/",
            "TEXT: /(.|\\n)*/",
        ]
    for rule, tool in zip(rules, tools, strict=True):
        head = f'{{"name": {json.dumps(tool.name)}, "arguments": '
        schema = with_options({"type": "object"} | tool.parameters, lenient=not tool.strict)
        lines.append(f"{rule}: {_quoted(head)} %json {json.dumps(schema)}")
    return str(LLMatcher.grammar_from_lark("\n".join(lines)))


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
