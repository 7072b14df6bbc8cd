"""Fills in a schema from pages: each field whose name is a label on a page."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from common.constraints.fitting import fits
from common.failures import ErrorCode, Refusal
from common.messages import Constraint, Line
from runners.reader.extraction.labels import find_labelled
from runners.reader.extraction.values import values_of

_PLAIN = {"string", "number", "integer", "boolean"}


@dataclass(frozen=True)
class Extracted:
    """The values of a schema's fields."""

    data: dict[str, Any]
    lines: list[Line]
    """Where the values stand, in reading order."""
    warning: str | None


def extract(schema: dict[str, Any], lines: Sequence[Line]) -> Extracted:
    """The fields of a schema, in its order; null where no page has one.

    Raises `Refusal` (BAD_PARAMETER) if the schema is not one of an object with fields.
    """
    fields = _resolved(schema, schema).get("properties")
    if not isinstance(fields, dict) or not fields:
        raise Refusal(
            ErrorCode.BAD_PARAMETER,
            "The embedded reader finds fields whose names are labels on the page: send 'fields', "
            "or the schema of an object with 'properties'; a vision-language model takes any.",
        )
    data: dict[str, Any] = {}
    quoted: list[Line] = []
    missing = []
    required = _resolved(schema, schema).get("required", [])
    for name, field in fields.items():
        value, line = _value(name, field, schema, lines)
        if line is None:
            missing.append(name)
            if name not in required and not _fits(None, field, schema):
                continue
        else:
            quoted.append(line)
        data[name] = value
    return Extracted(data, [line for line in lines if line in quoted], _warning(missing))


def _value(
    name: str, field: Any, schema: dict[str, Any], lines: Sequence[Line]
) -> tuple[Any, Line | None]:
    """The value of a field, and where it stands; nothing if it is not on the pages."""
    kinds = [kind for kind in _kinds(field, schema) if _is_plain(kind)]
    title = field.get("title") if isinstance(field, dict) else None
    for label in dict.fromkeys((name, title) if isinstance(title, str) else (name,)):
        for found in find_labelled(label, lines):
            for kind in kinds:
                for value in values_of(found.value, kind):
                    if _fits(value, field, schema):
                        return value, found.line
    return None, None


def _kinds(field: Any, schema: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The schemas that a field may have, references followed and alternatives parted."""
    field = _resolved(field, schema)
    alternatives = field.get("anyOf") or field.get("oneOf")
    if isinstance(alternatives, list):
        for one in alternatives:
            yield _resolved(one, schema)
    else:
        yield field


def _is_plain(kind: dict[str, Any]) -> bool:
    kinds = kind.get("type", "string")
    return not _PLAIN.isdisjoint(kinds if isinstance(kinds, list) else [kinds])


def _resolved(part: Any, schema: dict[str, Any]) -> dict[str, Any]:
    """A part of a schema, or the definition that it refers to."""
    reference = part.get("$ref", "") if isinstance(part, dict) else ""
    for place in ("$defs", "definitions"):
        if reference.startswith(prefix := f"#/{place}/"):
            part = schema.get(place, {}).get(reference.removeprefix(prefix), {})
    return part if isinstance(part, dict) else {}


def _fits(value: Any, field: Any, schema: dict[str, Any]) -> bool:
    shared = {name: schema[name] for name in ("$defs", "definitions") if name in schema}
    held = {**shared, **field} if isinstance(field, dict) else {}
    text = json.dumps(value, ensure_ascii=False)
    return fits(Constraint(kind="json", text=json.dumps(held)), text)


def _warning(missing: Sequence[str]) -> str | None:
    if not missing:
        return None
    names = ", ".join(f"'{name}'" for name in missing)
    return (
        f"Not found: {names}. The embedded reader finds plain fields whose names are labels on "
        "the page, and no more; a vision-language model understands the page."
    )
