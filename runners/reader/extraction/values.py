"""Turns the text of a value into the type that a schema wants."""

import re
from collections.abc import Iterator
from datetime import date
from typing import Any

_NUMBER = re.compile(r"[-−]?\s?\d(?:[\d\s.,'’]*\d)?")
_DAY_FIRST = re.compile(r"\b(\d{1,2})[./-](\d{1,2})[./-](\d{4}|\d{2})\b")
_YEAR_FIRST = re.compile(r"\b(\d{4})[./-](\d{1,2})[./-](\d{1,2})\b")
_NAMED = re.compile(r"\b(\d{1,2})\s+([^\W\d]{3,})\.?,?\s+(\d{4})\b")
_NAMED_FIRST = re.compile(r"\b([^\W\d]{3,})\.?\s+(\d{1,2}),?\s+(\d{4})\b")
_MONTHS = (
    ("jan", "янв"),
    ("feb", "фев"),
    ("mar", "мар"),
    ("apr", "апр"),
    ("may", "мая", "май"),
    ("jun", "июн"),
    ("jul", "июл"),
    ("aug", "авг"),
    ("sep", "сен"),
    ("oct", "окт"),
    ("nov", "ноя"),
    ("dec", "дек"),
)
_TRUE = {"yes", "true", "x", "да", "есть", "✓", "☑"}
_FALSE = {"no", "false", "нет", "none", "☐"}


def values_of(text: str, schema: dict[str, Any]) -> Iterator[Any]:
    """What a text may be by the schema of a plain field, the likeliest first."""
    kinds = schema.get("type", "string")
    kinds = kinds if isinstance(kinds, list) else [kinds]
    if "enum" in schema or "const" in schema:
        choices = schema.get("enum", [schema.get("const")])
        yield from (one for one in choices if str(one).casefold() == text.strip().casefold())
        return
    if "integer" in kinds or "number" in kinds:
        number = _number(text)
        if number is not None and (number.is_integer() or "number" in kinds):
            yield int(number) if number.is_integer() else number
    if "boolean" in kinds:
        word = text.strip(" .").casefold()
        if word in _TRUE | _FALSE:
            yield word in _TRUE
    if "string" in kinds:
        if schema.get("format") == "date":
            if day := _date(text):
                yield day.isoformat()
            return
        yield text.strip()


def _number(text: str) -> float | None:
    """The first number of a text. A comma before three last digits parts thousands."""
    found = _NUMBER.search(text)
    if not found:
        return None
    digits = re.sub(r"[\s'’]", "", found[0].replace("−", "-"))
    last = max(digits.rfind(","), digits.rfind("."))
    if last >= 0:
        mark, decimals = digits[last], digits[last + 1 :]
        other = {",": ".", ".": ","}[mark]
        thousands = digits.count(mark) > 1 or (
            mark == "," and len(decimals) == 3 and other not in digits
        )
        whole = re.sub(r"[.,]", "", digits[:last])
        digits = f"{whole}{decimals}" if thousands else f"{whole}.{decimals}"
    return float(digits)


def _date(text: str) -> date | None:
    """The first date of a text. Of two numbers that may be months the second is."""
    try:
        if found := _YEAR_FIRST.search(text):
            return date(int(found[1]), int(found[2]), int(found[3]))
        if found := _DAY_FIRST.search(text):
            day, month, year = int(found[1]), int(found[2]), int(found[3])
            day, month = (month, day) if month > 12 else (day, month)
            return date(year if year > 99 else 2000 + year, month, day)
        if found := _NAMED.search(text):
            return date(int(found[3]), _month(found[2]), int(found[1]))
        if found := _NAMED_FIRST.search(text):
            return date(int(found[3]), _month(found[1]), int(found[2]))
    except ValueError:
        return None
    return None


def _month(name: str) -> int:
    """The number of a month; 0 of any other word."""
    word = name.lower()
    return next((n for n, names in enumerate(_MONTHS, 1) if word.startswith(names)), 0)
