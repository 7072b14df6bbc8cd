"""Decides, word by word, whether a line is in Cyrillic or Latin letters."""

import re
from collections.abc import Callable
from dataclasses import replace
from itertools import groupby, pairwise

from runners.reader.lines.words import Character, LineWord

_SURE = 0.85
"""Confidence under which a Cyrillic word is read in Latin letters too."""
_LATIN_SURE, _LATIN_LIKELY = 0.9, 0.75
"""Confidence over which a Latin word is believed, and where the Cyrillic one makes no sense."""
_READ = 0.6
"""Confidence over which a Cyrillic word makes sense."""
_OWN_LETTERS = 0.3
"""Share of letters that are Latin only which a word must have if the Cyrillic one makes sense."""
_LOOK_ALIKES = frozenset("ABCEHKMOPTXYaceopxyАВСЕНКМОРТХУасеорху")
"""Letters that are in both alphabets, or look as if they were."""
_JOINTS = frozenset("-–—/")
"""What joins words of different alphabets."""
_OPENING_QUOTES = frozenset('«"“„')
"""What follows "ООО", the form of most Russian companies, which reads as zeros."""
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
    for at, (word, following) in enumerate(pairwise(merged)):
        if word.text == "000" and following.text[0] in _OPENING_QUOTES:
            merged[at] = LineWord(tuple(replace(c, text="О") for c in word.characters))
    return merged


def _is_doubtful(word: LineWord) -> bool:
    """Whether the word was hard to read, or is spelt alike in both alphabets: GBP reads as СВР."""
    letters = set(filter(str.isalpha, word.text))
    return word.confidence < _SURE or (word.text.isupper() and letters <= _LOOK_ALIKES)


def _better(word: LineWord, read_latin: ReadAlone) -> LineWord:
    latin = read_latin(word.start, word.end)
    if latin and _replaces(latin, word):
        return latin
    # "USB-кабель": each part is in an alphabet of its own.
    parts = [
        LineWord(tuple(part))
        for _, part in groupby(word.characters, lambda character: character.text in _JOINTS)
    ]
    if len(parts) == 1:
        return word
    characters: list[Character] = []
    for part in parts:
        alone = None if part.text[0] in _JOINTS else read_latin(part.start, part.end)
        replaced = alone and _replaces(alone, part)
        chosen = alone.characters if alone and replaced else part.characters
        # What is read alone may have a bit of the joint, which comes by itself.
        characters += [c for c in chosen if c.text not in _JOINTS or chosen is part.characters]
    return LineWord(tuple(characters))


def _replaces(latin: LineWord, word: LineWord) -> bool:
    """Whether the Latin reading is surer, and not only of letters that look alike."""
    if latin.confidence < (_LATIN_SURE if word.confidence >= _READ else _LATIN_LIKELY):
        return False
    letters = list(filter(str.isalpha, latin.text))
    if not letters:
        made_of_letters = word.text.isalpha() and word.confidence >= _READ
        return latin.confidence > word.confidence and not made_of_letters
    own = sum(map(_is_latin, letters))
    longer = len(latin.text) > len(word.text)
    if word.confidence >= _READ and own < _OWN_LETTERS * len(letters) and not longer:
        return False  # Cyrillic words of letters that look alike are read as Latin ones, too
    return own > 0 or bool(_ODD.search(word.text))


def _is_latin(text: str) -> bool:
    """Whether there are letters that only the Latin alphabet has."""
    return any(letter.isascii() and letter.isalpha() for letter in set(text) - _LOOK_ALIKES)
