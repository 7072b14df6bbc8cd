"""Defines what a recogniser reads in one line: characters, and the words that they make."""

from dataclasses import dataclass
from itertools import groupby

from runners.reader.lines.ink import columns_with_ink
from runners.reader.lines.quads import Pixels

_PER_CHARACTER = 1.0
"""Heights of a line that one character and a space take at most."""


@dataclass(frozen=True)
class Character:
    """A character of a line."""

    text: str
    confidence: float
    """0 to 1."""
    start: float
    """Where it begins, in heights of the line from the line's left end."""
    end: float

    @property
    def middle(self) -> float:
        return (self.start + self.end) / 2


@dataclass(frozen=True)
class LineWord:
    """A word of a line, and where it stands."""

    text: str
    confidence: float
    """0 to 1."""
    start: float
    """Where it begins, in heights of the line from the line's left end."""
    end: float


def to_words(characters: list[Character]) -> list[LineWord]:
    """The words that spaces part."""
    words: list[LineWord] = []
    for is_space, group in groupby(characters, lambda character: character.text.isspace()):
        part = list(group)
        if not is_space:
            confidence = sum(character.confidence for character in part) / len(part)
            text = "".join(character.text for character in part)
            words.append(LineWord(text, confidence, part[0].start, part[-1].end))
    return words


def mean_confidence(words: list[LineWord]) -> float:
    """The mean over the characters; 0 if there are none."""
    characters = sum(len(word.text) for word in words)
    return sum(w.confidence * len(w.text) for w in words) / characters if characters else 0.0


def is_whole(characters: list[Character], line: Pixels) -> bool:
    """Whether there is no ink in the line that no character was read from.

    PP-OCR reads nothing where it does not know the letters.
    """
    height, width = line.shape[:2]
    ink = columns_with_ink(line.mean(axis=2))
    edges = [-0.3, *(character.middle for character in characters if character.text.strip())]
    for left, right in zip(edges, [*edges[1:], width / height + 0.3], strict=True):
        inner = ink[max(0, round((left + 0.5) * height)) : max(0, round((right - 0.5) * height))]
        if right - left > _PER_CHARACTER and inner.sum() > 0.3 * height:
            return False
    return True
