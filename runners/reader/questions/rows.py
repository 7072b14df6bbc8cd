"""Finds the rows of a page that answer a question.

A row is a line of text, in a table or form with tabs between its cells. A row answers if it holds
the words of the question. Rows whose label says nothing else come first: "Total" before "Total
tax".
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from rapidfuzz import fuzz

from common.messages import Line
from runners.reader.questions.fields import FIELDS, Field, field_of
from runners.reader.questions.vocabulary import Kind, kinds_of
from runners.reader.questions.words import stem, stems_of, words_of

_ALIKE = 80
"""rapidfuzz' ratio, of 100, over which two stems are the same word, misread."""
_SHORT = 4
"""Letters; shorter stems have to be equal."""
_ENOUGH = 0.5
"""A row must hold more than this share of the question's weight to answer it."""
_NEARLY_BEST = 0.8
"""Share of the best row's score that another row must have to be quoted too."""
_MAX_ROWS = 5
"""Largest number of rows that are quoted for one thing, without those after a label."""
_BY_VALUE = 0.6
"""How much a value without its label ("$5" for "price") counts."""
_LESS_TELLING = 0.5
"""How much a generic word ("date"), a kind of document ("invoice") or a word that the page does not
have counts beside others."""
_LABEL_WORDS = 4
"""Most words of a row that is only the label of the row after it."""
_VALUE = re.compile(r"\t|:|(?<!\w)[№#]|[$€£₽]?\d")
"""Where the label of a row ends."""


@dataclass(frozen=True)
class _Word:
    """A word of the question."""

    text: str
    stem: str
    name: str | None
    """Of the field that it names."""

    @property
    def field(self) -> Field | None:
        return FIELDS[self.name] if self.name else None

    @property
    def shows_itself(self) -> bool:
        """Whether its value is known by its look, without a label: a date."""
        return self.name in ("date", "time", "mail", "website")


def is_on_page(word: str, stems: frozenset[str]) -> bool:
    """Whether the stems of a page hold the word, or a misread form of it."""
    return _among(stem(word), stems)


def find_rows(topic: Sequence[str], rows: Sequence[Line], *, counted: bool) -> list[int]:
    """The places of the rows that answer the question, in reading order.

    topic: the words of what is asked for. counted: the answer is a number.
    """
    words = [_Word(word, stem(word), field_of(word)) for word in topic]
    if any(word.name in ("phone", "account", "mail", "website") for word in words):
        # Such a field is a number or an address by itself.
        words = [word for word in words if word.name not in ("number", "address")]
    following = [*(row.text for row in rows[1:]), ""]
    texts = [_Row(row.text, after) for row, after in zip(rows, following, strict=True)]
    found = _found(words, texts, counted=counted)
    if not found and any(word.shows_itself for word in words):
        # "What date is on the invoice?": the date of a document often stands without a label.
        about = {Kind.KIND, Kind.DONE}
        words = [w for w in words if w.shows_itself or not kinds_of(w.text) & about]
        found = _found(words, texts, counted=counted)
    return found


def _found(words: Sequence[_Word], texts: Sequence["_Row"], *, counted: bool) -> list[int]:
    scores = _scores(words, texts, counted=counted)
    best = max(scores, default=0.0)
    if not best:
        return []
    found = [n for n, score in enumerate(scores) if score >= _NEARLY_BEST * best][:_MAX_ROWS]
    with_value = [n for n in found if texts[n].has_value(words)]
    found = with_value if any(word.shows_itself for word in words) else with_value or found
    after = [n + 1 for n in found if n + 1 < len(texts) and texts[n].is_label_only(words)]
    return sorted({*found, *after})


def _scores(words: Sequence[_Word], rows: Sequence["_Row"], *, counted: bool) -> list[float]:
    """How well each row answers; 0 if it does not."""
    kinds = [word for word in words if Kind.KIND in kinds_of(word.text)]
    asks_number = any(word.name == "number" for word in words)
    if asks_number and not all(any(row.holds(kind) for row in rows) for kind in kinds):
        return []  # it is the number of another thing
    named = [word for word in words if word.field and not word.field.generic]
    needed = [word for word in words if kinds_of(word.text) & {Kind.SIGHT, Kind.BEYOND}]
    held = [{word: row.holds(word) for word in words} for row in rows]
    weights = _weights(words, held)
    scores: list[float] = []
    for row, on_row in zip(rows, held, strict=True):
        if any(on_row.values()) and row.value_has_digit:
            # "Passport 4509" has the number of a passport.
            on_row |= {w: _BY_VALUE for w in words if w.name == "number" and not on_row[w]}
        score = sum(weights[word] * on_row[word] for word in words)
        answers = (
            score > _ENOUGH * sum(weights.values())
            and all(on_row[word] for word in needed)
            and (not named or any(on_row[word] for word in named))
            and (not counted or row.has_digit)
        )
        scores.append(score * (1 + row.purity(words)) / 2 if answers else 0.0)
    return scores


class _Row:
    """The words of a row, and of its label."""

    def __init__(self, text: str, after: str) -> None:
        """after: the text of the row after it, which has the value if the row is but a label."""
        self.text = text
        self.words = words_of(text)
        self.stems = stems_of(text)
        self.has_digit = bool(re.search(r"\d", text))
        before_value = _VALUE.split(text.strip(), maxsplit=1)[0]
        label = words_of(before_value) or self.words
        self.label = [
            word for word in label if Kind.STOP not in kinds_of(word) and not word.isdigit()
        ]
        self.is_label = not _VALUE.search(text.rstrip(" :")) and len(self.words) <= _LABEL_WORDS
        self._value = f"{text}\n{after}" if self.is_label else text
        self.value_has_digit = bool(re.search(r"\d", self._value))
        self._fields = {name for word in self.words if (name := field_of(word))}

    def holds(self, word: _Word) -> float:
        """How surely the row holds the word, in any form, from 0 to 1."""
        if _among(word.stem, self.stems) or word.name in self._fields:
            return 1.0
        if word.name == "sum" and "total" in self._fields and self.has_digit:
            return 0.9
        if word.name == "total" and "sum" in self._fields and self.has_digit:
            return _BY_VALUE
        field = word.field
        by_value = field and field.value and field.value.pattern != r"\d"
        if by_value and field and field.value and field.value.search(self._value):
            return _BY_VALUE
        return 0.0

    def purity(self, words: Sequence[_Word]) -> float:
        """The share of the label's words that the question has, or that name a sum in general."""
        asked_stems = frozenset(word.stem for word in words)
        asked_fields = {word.name for word in words if word.name}
        known = [
            word
            for word in self.label
            if _among(stem(word), asked_stems) or field_of(word) in {*asked_fields, "sum"}
        ]
        return len(known) / len(self.label) if self.label else 0.0

    def has_value(self, words: Sequence[_Word]) -> bool:
        """Whether it has values of the kinds that are asked for."""
        return all(
            word.field.value.search(self._value)
            for word in words
            if word.field and word.field.value
        )

    def is_label_only(self, words: Sequence[_Word]) -> bool:
        """Whether it only names what is asked for, so that the row after it has the value."""
        if self.text.rstrip().endswith(":"):
            return True
        needed = _ENOUGH if any(word.field and word.field.value for word in words) else 1.0
        return self.is_label and self.has_value(words) and self.purity(words) >= needed


def _weights(words: Sequence[_Word], held: Sequence[dict[_Word, float]]) -> dict[_Word, float]:
    """How much each word tells: rare words more, generic ones less."""
    weights = {}
    for word in words:
        count = sum(on_row[word] > 0 for on_row in held)
        weights[word] = math.log(1 + len(held) / max(1, count))
        generic = word.field is not None and word.field.generic
        if generic or not count or Kind.KIND in kinds_of(word.text):
            weights[word] *= _LESS_TELLING
    return weights


def _among(word: str, stems: frozenset[str]) -> bool:
    if word in stems:
        return True
    if len(word) < _SHORT or field_of(word) in ("total", "subtotal"):
        return False
    return any(len(s) >= _SHORT and fuzz.ratio(word, s) >= _ALIKE for s in stems)
