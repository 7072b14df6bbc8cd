"""Merges two readings of the same words, one in each language, into the likelier one.

Tesseract reads each word in one language only. English words stand within Russian text, though, and
some words look alike in both alphabets. Imports no Tesseract.
"""

import sys
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

_SURE = 0.85
"""Confidence under which the other language is tried, and over which it is believed."""
_LOOK_ALIKES = frozenset("ABCEHKMOPTXYaceopxyАВСЕНКМОРТХУасеорху")
"""Letters that are in both alphabets, or look as if they were."""
_SAME_START = 10
"""Pixels by which two readings may differ on where a word begins."""


@dataclass(frozen=True)
class Word:
    """A word that was read."""

    text: str
    confidence: float
    """0 to 1."""
    x: int
    """Where it begins."""


def mean_confidence(words: list[Word]) -> float:
    """The mean over the characters; 0 if there are none."""
    characters = sum(len(word.text) for word in words)
    return sum(w.confidence * len(w.text) for w in words) / characters if characters else 0.0


def is_doubtful(word: Word) -> bool:
    """Whether the word was hard to read, or is spelt alike in both alphabets: GBP reads as СВР."""
    letters = set(filter(str.isalpha, word.text))
    alike = word.text.isupper() and letters <= _LOOK_ALIKES
    return alike or (word.confidence < _SURE and any(map(str.isalnum, word.text)))


def merge(words: list[Word], others: list[Word]) -> list[Word]:
    """The words, or those of the other language where it is surer."""
    first, second = words, others
    if mean_confidence(others) > max(_SURE, mean_confidence(words)):
        first, second = others, words  # all of it is in the other language
    merged: list[Word] = []
    for part, rivals in _aligned(first, second):
        replaced = any(map(is_doubtful, part)) and _replaces(rivals, part)
        merged += rivals if replaced else part
    return merged


def _aligned(first: list[Word], second: list[Word]) -> Iterator[tuple[list[Word], list[Word]]]:
    """Two readings of a line, divided where words of both begin at the same place."""
    starts = [
        word.x for word in first if any(abs(word.x - rival.x) <= _SAME_START for rival in second)
    ]
    cuts = [*(x - _SAME_START for x in starts), sys.maxsize]
    left, right = deque(first), deque(second)
    for cut in cuts:
        yield _take(left, cut), _take(right, cut)


def _take(words: deque[Word], end: int) -> list[Word]:
    """Take out the words at the head that begin before `end`."""
    return [words.popleft() for _ in range(sum(1 for word in words if word.x < end))]


def _replaces(rivals: list[Word], words: list[Word]) -> bool:
    """Whether the other language is surer, and its letters are not those that look alike."""
    confidence = mean_confidence(rivals)
    letters = set(filter(str.isalpha, "".join(word.text for word in rivals)))
    if letters:
        return confidence > _SURE and not letters <= _LOOK_ALIKES
    return confidence > max(_SURE, mean_confidence(words))
