"""Turns a constraint into the grammar that the answer is held to."""

import json
import re
from collections.abc import Sequence

from llguidance import LLMatcher, grammar_from

from common.constraints.json_schemas import LIMITS, find_fault, schema_grammar
from common.messages import Constraint


class BadConstraint(ValueError):
    """Raised if a constraint is at fault; says why and where, as the end of a sentence."""


def grammar_of(constraint: Constraint) -> str:
    """The grammar of a constraint. Raises `BadConstraint` if a text is no grammar at all.

    A schema or grammar that has a fault is found by `check`, or when a matcher is made of it.
    """
    match constraint.kind:
        case "json":
            return schema_grammar(json.loads(constraint.text), constraint.lenient)
        case "regex":
            return str(grammar_from("regex", constraint.text))
        case "choice":
            return _lark(json.loads(constraint.text))
        case "grammar":
            try:
                return str(grammar_from("grammar", constraint.text))
            except ValueError as error:
                raise BadConstraint(_first_line(str(error))) from error


def check(constraint: Constraint) -> None:
    """Raises `BadConstraint`, which names the place, if a constraint cannot be held to."""
    if constraint.kind == "json":
        fault = find_fault(json.loads(constraint.text), constraint.lenient)
        if fault is not None:
            raise BadConstraint(f"at '{fault.place or '/'}' of the schema, {fault.reason}")
        return
    said = LLMatcher.validate_grammar(grammar_of(constraint), limits=LIMITS)
    if not said:
        return
    if constraint.kind == "regex":
        raise BadConstraint(f"it is no regular expression: {_regex_fault(said)}")
    raise BadConstraint(_first_line(said))


def _lark(choices: Sequence[str]) -> str:
    alternatives = " | ".join(map(_quoted, choices))
    return LLMatcher.grammar_from_lark(f"start: {alternatives}")


def _quoted(text: str) -> str:
    """A text as Lark's notation has it: as in JSON, but DEL has to be escaped, too."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _regex_fault(said: str) -> str:
    """What the compiler says is wrong with a regular expression, in one line."""
    *_, reason = re.findall("error: (.+)", said) or [_first_line(said)]
    return str(reason).rpartition("(in regex): ")[2]


def _first_line(said: str) -> str:
    return said.strip().splitlines()[0]
