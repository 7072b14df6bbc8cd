"""Defines what a recogniser reads in one line: characters, and the words that they make."""

from dataclasses import dataclass
from itertools import groupby

from runners.reader.lines.ink import columns_with_ink
from runners.reader.lines.quads import Pixels

_PER_CHARACTER = 0.8
"""Heights of a line that one character and a space take at most."""
_HALF = 0.35
"""Half the width of a wide letter, in heights of a line."""
_STROKES = 0.22
"""Width of the ink of a letter, in heights of a line."""
_OVERLOOKED = 0.02
"""Share of the ink of a long line that may have been passed over."""


@dataclass(frozen=True)
class Character:
    """A character of a line."""

    text: str
    confidence: float
    """0 to 1."""
    start: float
    """Where it begins, in heights of the line from the line's left end."""
    end: float
    is_known: bool = False
    """Whether it is of a word that the recogniser's dictionary has."""

    @property
    def middle(self) -> float:
        return (self.start + self.end) / 2


@dataclass(frozen=True)
class LineWord:
    """A word of a line."""

    characters: tuple[Character, ...]

    @property
    def text(self) -> str:
        return "".join(character.text for character in self.characters)

    @property
    def confidence(self) -> float:
        return sum(character.confidence for character in self.characters) / len(self.characters)

    @property
    def is_known(self) -> bool:
        """Whether the recogniser's dictionary has it."""
        return all(character.is_known for character in self.characters)

    @property
    def start(self) -> float:
        return self.characters[0].start

    @property
    def end(self) -> float:
        return self.characters[-1].end


def to_words(characters: list[Character]) -> list[LineWord]:
    """The words that spaces part."""
    groups = groupby(characters, lambda character: character.text.isspace())
    return [LineWord(tuple(group)) for is_space, group in groups if not is_space]


def joined(words: list[LineWord]) -> LineWord | None:
    """The words as one; None if there are none."""
    characters = tuple(character for word in words for character in word.characters)
    return LineWord(characters) if characters else None


def mean_confidence(words: list[LineWord]) -> float:
    """The mean over the characters; 0 if there are none."""
    characters = sum(len(word.text) for word in words)
    return sum(w.confidence * len(w.text) for w in words) / characters if characters else 0.0


def is_whole(characters: list[Character], line: Pixels) -> bool:
    """Whether there is hardly any ink in the line that no character was read from.

    PP-OCR reads nothing where it does not know the letters.
    """
    height, width = line.shape[:2]
    ink = columns_with_ink(line.mean(axis=2))
    edges = [-_HALF, *(character.middle for character in characters if character.text.strip())]
    unread = 0
    for left, right in zip(edges, [*edges[1:], width / height + _HALF], strict=True):
        start, end = round((left + _HALF) * height), round((right - _HALF) * height)
        inner = ink[max(0, start) : max(0, end)]
        if right - left > _PER_CHARACTER and inner.sum() > _STROKES * height:
            unread += int(inner.sum())
    return unread <= _OVERLOOKED * ink.sum()
