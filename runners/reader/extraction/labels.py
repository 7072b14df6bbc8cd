"""Finds what stands beside or under a label."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest

from rapidfuzz import fuzz

from common.messages import Line
from runners.reader.questions.fields import field_of
from runners.reader.questions.vocabulary import Kind, kinds_of
from runners.reader.questions.words import stem, words_of

_ALIKE = 80
"""rapidfuzz' ratio, of 100, over which two longer stems are the same word, misread."""
_LONG = 5
"""Fewest letters of a stem that may be misread."""
_PURE = 0.5
"""Least share of a label's words that the field's name has."""
_COLON = re.compile(r"(?<!\d):|:(?!\d)")
"""Ends a label; not the one of a time."""
_NUMBER = re.compile(r"[-−]?[$€£₽]?\s?\d")
"""Where a label ends that no colon ends."""
_CAMEL = re.compile(r"(?<=[a-zа-я0-9])(?=[A-ZА-Я])|[_\-.\s]+")


@dataclass(frozen=True)
class Labelled:
    """What may be the value of a field."""

    value: str
    line: Line
    purity: float
    """The share of the label's words that the field's name has."""


def find_labelled(name: str, lines: Sequence[Line]) -> list[Labelled]:
    """What a field's name is the label of, the purest label first, then in reading order.

    name: "invoiceNumber", "invoice_number" or "Invoice number".
    """
    asked = _keys(" ".join(_CAMEL.split(name)))
    if not asked:
        return []
    found = []
    for line, after in zip_longest(lines, lines[1:]):
        for label, value in _pairs(line.text, after.text if after else ""):
            keys = _keys(label)
            if value and keys and all(_among(key, keys) for key in asked):
                found.append(Labelled(value, line, len(asked) / len(keys)))
    pure = [one for one in found if one.purity >= _PURE]
    return sorted(pure, key=lambda one: -one.purity)


def _pairs(text: str, after: str) -> Iterator[tuple[str, str]]:
    """What may be labels in a row, each with what may be its value.

    after: the text of the next row, whose first cell is the value of a row that is but a label.
    """
    cells = [cell.strip() for cell in text.split("\t")]
    below = after.split("\t")[0].strip() if len(cells) == 1 else ""
    for cell, beside in zip(cells, [*cells[1:], ""], strict=True):
        if colon := _COLON.search(cell):
            yield cell[: colon.start()], cell[colon.end() :].strip() or beside or below
            continue
        if (number := _NUMBER.search(cell)) and number.start():
            yield cell[: number.start()], cell[number.start() :].strip()
        yield cell, beside or below


def _keys(text: str) -> set[str]:
    """The words of a text that tell: the field that a word names, or its stem."""
    words = [word for word in words_of(text) if Kind.STOP not in kinds_of(word)]
    return {field_of(word) or stem(word) for word in words if not word.isdigit()}


def _among(key: str, keys: set[str]) -> bool:
    if key in keys:
        return True
    return len(key) >= _LONG and any(
        len(other) >= _LONG and fuzz.ratio(key, other) >= _ALIKE for other in keys
    )
