"""Random JSON schemas, for Hypothesis, and what a text is worth by one."""

import json
from datetime import date
from typing import Any

from hypothesis import strategies as st
from jsonschema import Draft202012Validator, FormatChecker

NAMES = st.text("abcxyz _-é", min_size=1, max_size=6)


def _object(children: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
    def schema(properties: dict[str, Any], required: list[bool]) -> dict[str, Any]:
        needed = [name for name, one in zip(properties, required, strict=False) if one]
        return {
            "type": "object",
            "properties": properties,
            "required": needed,
            "additionalProperties": False,
        }

    return st.builds(
        schema,
        st.dictionaries(NAMES, children, max_size=4),
        st.lists(st.booleans(), min_size=4, max_size=4),
    )


EXACT_INTEGERS = st.integers(-(2**53) + 1, 2**53 - 1)

BOUNDED_VALUES: st.SearchStrategy[dict[str, Any]] = st.one_of(
    st.just({"type": "boolean"}),
    st.just({"type": "null"}),
    st.just({"type": "string", "format": "date"}),
    st.just({"type": "string", "pattern": "^[A-Z]{2}[0-9]{1,3}$"}),
    st.builds(lambda most: {"type": "string", "maxLength": most}, st.integers(0, 8)),
    st.builds(
        lambda least, more: {"type": "integer", "minimum": least, "maximum": least + more},
        st.integers(-999, 999),
        st.integers(0, 999),
    ),
    st.builds(
        lambda values: {"enum": values},
        st.lists(
            st.none() | st.booleans() | EXACT_INTEGERS | NAMES,
            min_size=1,
            max_size=3,
        ),
    ),
)
"""Schemas of values whose JSON cannot be long."""
BOUNDED = st.recursive(
    BOUNDED_VALUES,
    lambda children: st.one_of(
        _object(children),
        st.builds(
            lambda items, least, more: {
                "type": "array",
                "items": items,
                "minItems": least,
                "maxItems": least + more,
            },
            children,
            st.integers(0, 2),
            st.integers(0, 2),
        ),
        st.builds(lambda some: {"anyOf": some}, st.lists(children, min_size=1, max_size=3)),
    ),
    max_leaves=6,
)
"""Schemas of JSON that cannot be long."""


_FORMATS = FormatChecker()


@_FORMATS.checks("date", raises=ValueError)
def _is_date(value: object) -> bool:
    """RFC 3339 has a year 0000, a leap year, which Python's dates do not have."""
    if isinstance(value, str):
        date.fromisoformat(value.replace("0000-", "0004-", 1))
    return True


def misfit(text: str, schema: dict[str, Any]) -> str | None:
    """Why a text is no JSON that fits a schema; None if it is."""
    validator = Draft202012Validator(schema, format_checker=_FORMATS)
    error = next(validator.iter_errors(json.loads(text)), None)
    return error and error.message
