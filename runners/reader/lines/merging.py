"""Decides, word by word, whether a line is in Cyrillic or Latin letters."""

import re
from collections.abc import Callable

from runners.reader.lines.words import LineWord

_SURE = 0.85
"""Confidence under which a Cyrillic word is read in Latin letters too."""
_LATIN_SURE = 0.9
"""Confidence over which a Latin word is believed."""
_READ = 0.6
"""Confidence over which a Cyrillic word makes sense."""
_OWN_LETTERS = 0.4
"""Share of its letters that a Latin word must have of its own where the Cyrillic one makes sense."""
_LOOK_ALIKES = frozenset("ABCEHKMOPTXYaceopxyАВСЕНКМОРТХУасеорху")
"""Letters that are in both alphabets, or look as if they were."""
_PARTS = re.compile(r"[^-–—/]+|[-–—/]+")
_ODD = re.compile(r"[\\|{}\[\]$!№]")
"""What Tesseract reads in the middle of a word whose letters it does not know."""

ReadAlone = Callable[[float, float], LineWord | None]
"""Reads what stands between two places of the line in Latin letters; None if it cannot."""


def merge(words: list[LineWord], read_latin: ReadAlone) -> list[LineWord]:
    """The words of a Cyrillic line, those that are Latin replaced.

    Neighbours of a Latin word are doubted too: names and addresses are of several words.
    """
    merged = [_better(word, read_latin) if _is_doubtful(word) else word for word in words]
    for at, word in enumerate(words):
        beside = [n for n in (at - 1, at + 1) if 0 <= n < len(words)]
        if merged[at] is word and any(_is_latin(merged[n].text) for n in beside):
            merged[at] = _better(word, read_latin)
    return merged


def _is_doubtful(word: LineWord) -> bool:
    """Whether the word was hard to read, or is spelt alike in both alphabets: GBP reads as СВР."""
    letters = set(filter(str.isalpha, word.text))
    return word.confidence < _SURE or (word.text.isupper() and letters <= _LOOK_ALIKES)


def _better(word: LineWord, read_latin: ReadAlone) -> LineWord:
    latin = read_latin(word.start, word.end)
    if latin and _replaces(latin, word):
        return latin
    parts = list(_PARTS.finditer(word.text))
    if len(parts) == 1:
        return word
    # "USB-кабель": each part is in an alphabet of its own.
    width = (word.end - word.start) / len(word.text)
    text = ""
    for part in parts:
        whole = part[0]
        start, end = word.start + part.start() * width, word.start + part.end() * width
        if whole[0].isalnum() or len(whole) > 1:
            other = read_latin(start, end)
            if other and _replaces(other, LineWord(whole, word.confidence, start, end)):
                whole = other.text.strip("-–—/")
        text += whole
    return LineWord(text, word.confidence, word.start, word.end)


def _replaces(latin: LineWord, word: LineWord) -> bool:
    """Whether the Latin reading is surer, and not only of letters that look alike."""
    if latin.confidence < _LATIN_SURE:
        return False
    letters = list(filter(str.isalpha, latin.text))
    if not letters:
        return latin.confidence > word.confidence
    own = sum(map(_is_latin, letters))
    if word.confidence >= _READ and own < _OWN_LETTERS * len(letters):
        return False  # Cyrillic words of letters that look alike are read as Latin ones, too
    return own > 0 or bool(_ODD.search(word.text))


def _is_latin(text: str) -> bool:
    """Whether there are letters that only the Latin alphabet has."""
    return any(letter.isascii() and letter.isalpha() for letter in set(text) - _LOOK_ALIKES)
