"""Turns a JSON schema into a grammar, and finds the place in it that cannot be turned into one."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from llguidance import LLMatcher, LLParserLimits

LIMITS = LLParserLimits(verbose_errors=False)
_OPTIONS = {
    # The white space of `json.dumps`, which models have seen most: any would let one write spaces
    # without end.
    "whitespace_flexible": False,
    "item_separator": ", ",
    "key_separator": ": ",
    "coerce_one_of": False,
    "lenient": False,
}
_LENIENT = {"coerce_one_of": True, "lenient": True}
_SHARED = ("$defs", "definitions")
"""Keywords under which a schema holds what others of its parts refer to."""
_MAPS = ("properties", "patternProperties")
_LISTS = ("anyOf", "oneOf", "allOf", "prefixItems")
_SINGLE = ("items", "additionalProperties", "additionalItems")
_VALUES = ("const", "enum", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum")
_LARGEST = 2**53 - 1
"""The compiler has numbers in float64."""
_TOO_LARGE = f"whole numbers beyond {_LARGEST} are not held to exactly: use a string"
_MANY = 2_000
"""Most parts of a schema that are looked at in search of a fault."""


@dataclass(frozen=True)
class Fault:
    """Why a schema cannot be turned into a grammar."""

    place: str
    """JSON pointer to the part that is at fault: "/properties/total"; empty for the whole."""
    reason: str


def with_options(schema: Mapping[str, Any], lenient: bool = False) -> dict[str, Any]:
    """The schema as a grammar takes it.

    lenient: keywords that cannot be held to are passed over, and `oneOf` counts as `anyOf`.
    """
    return {**schema, "x-guidance": _OPTIONS | (_LENIENT if lenient else {})}


def schema_grammar(schema: Mapping[str, Any], lenient: bool = False) -> str:
    """The grammar of the JSON texts that fit a schema. lenient: as for `with_options`."""
    return json.dumps({"grammars": [{"json_schema": with_options(schema, lenient)}]})


def find_fault(schema: Mapping[str, Any], lenient: bool = False) -> Fault | None:
    """The innermost part of a schema that cannot be turned into a grammar; None if all can."""
    reason = _problem(schema, lenient)
    if reason is None:
        return None
    shared = {name: schema[name] for name in _SHARED if name in schema}
    looked_at: set[str] = set()
    within = {"#"}
    """References to the parts that the fault is in: what refers back to one is not at fault."""

    def problem_of(place: str, part: Any) -> str | None:
        """What is wrong with a part by itself, beside the definitions that it may refer to."""
        if place in looked_at or len(looked_at) == _MANY:
            return None
        looked_at.add(place)
        if isinstance(part, Mapping) and part.get("$ref") in within:
            return None
        return _problem({**shared, **part} if isinstance(part, Mapping) else part, lenient)

    fault, part = Fault("", reason), schema
    while True:
        for place, child in _parts(fault.place, part, schema):
            if (reason := problem_of(place, child)) is not None:
                fault, part = Fault(place, reason), child
                within.add(f"#{place}")
                break
        else:
            return fault


def _problem(schema: Any, lenient: bool) -> str | None:
    """What the compiler says against a schema, as the end of a sentence; None if nothing."""
    if isinstance(schema, bool):
        return None
    if not isinstance(schema, Mapping):
        return "a schema has to be an object, true or false"
    try:
        said = LLMatcher.validate_grammar(schema_grammar(schema, lenient), limits=LIMITS)
    except ValueError as error:
        said = str(error)
    if said:
        return _plain(said)
    return None if lenient or not _has_large_number(schema) else _TOO_LARGE


def _has_large_number(schema: Any) -> bool:
    """Whether a value that an answer is held to is a whole number that is rounded in a grammar."""
    match schema:
        case Mapping():
            return any(
                _holds_large(part) if keyword in _VALUES else _has_large_number(part)
                for keyword, part in schema.items()
            )
        case list():
            return any(map(_has_large_number, schema))
    return False


def _holds_large(value: Any) -> bool:
    match value:
        case int():
            return abs(value) > _LARGEST
        case Mapping():
            return any(map(_holds_large, value.values()))
        case list():
            return any(map(_holds_large, value))
    return False


def _plain(said: str) -> str:
    """The compiler's words in the field's."""
    if found := re.match(r"Unimplemented keys: \[(.*)\]", said):
        return f"an answer cannot be held to the keywords {found[1].replace(chr(34), '')}"
    if said.startswith("oneOf constraints are not supported"):
        return "the alternatives of oneOf may overlap: use anyOf"
    if said.startswith("regex parse error"):
        return f"the pattern is no regular expression: {said.rpartition('error: ')[2]}"
    if said.startswith("Resource"):
        return "references to other documents are not followed"
    if said.startswith("recursion limit"):
        return "it is nested too deeply"
    first = said.strip().splitlines()[0]
    return first[:1].lower() + first[1:]


def _parts(place: str, schema: Any, root: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """The schemas within the schema at `place`, and the definition that it refers to.

    Each comes with its own place.
    """
    if not isinstance(schema, Mapping):
        return
    for keyword in _MAPS:
        if isinstance(schema.get(keyword), Mapping):
            for name, child in schema[keyword].items():
                yield f"{place}/{keyword}/{_escaped(name)}", child
    for keyword in _LISTS:
        if isinstance(schema.get(keyword), list):
            yield from ((f"{place}/{keyword}/{n}", one) for n, one in enumerate(schema[keyword]))
    for keyword in _SINGLE:
        if keyword in schema:
            yield f"{place}/{keyword}", schema[keyword]
    for keyword in _SHARED:
        prefix = f"#/{keyword}/"
        reference = schema.get("$ref")
        if isinstance(reference, str) and reference.startswith(prefix):
            name = reference.removeprefix(prefix).replace("~1", "/").replace("~0", "~")
            if isinstance(definitions := root.get(keyword), Mapping) and name in definitions:
                yield f"/{keyword}/{_escaped(name)}", definitions[name]


def _escaped(name: str) -> str:
    """A name as a JSON pointer has it."""
    return name.replace("~", "~0").replace("/", "~1")
