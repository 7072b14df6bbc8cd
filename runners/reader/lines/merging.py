"""Decides, word by word, whether a line is in Cyrillic or Latin letters."""

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import groupby, pairwise

from runners.reader.lines.look_alikes import has_own, is_shape_of
from runners.reader.lines.words import Character, LineWord, joined

_SURE = 0.85
"""Confidence under which a Cyrillic word is read in Latin letters too."""
_SETTLED = 0.9
"""Confidence from which on a long Cyrillic word is not read in Latin letters too."""
_LONG, _LONG_UNKNOWN = 5, 8
"""Letters of such a word that the dictionary has, and of one that it lacks."""
_READ = 0.6
"""Confidence over which a Cyrillic word makes sense."""
_LATIN_LIKELY = 0.75
"""Confidence over which a Latin word is believed where the Cyrillic one makes no sense."""
_LETTER_SURE = 0.95
"""Confidence that each letter of a Latin word has where the Cyrillic one makes sense, too."""
_OWN_LETTERS = 0.3
"""Share of letters that are Latin only, in a word no longer than the Cyrillic one."""
_DOUBTFUL = 0.9
"""Confidence of a letter under which a word of a Latin line may be a Cyrillic one."""
_TELLING = 4
"""Letters of a Russian word that its neighbours make a Latin one that looks like it."""
_JOINTS = frozenset("-–—/")
"""What joins words of different alphabets."""
_OPENING_QUOTES = frozenset('«"“„')
"""What follows "ООО", the form of most Russian companies, which reads as zeros."""
_ODD = re.compile(r"[\\|{}\[\]$!№]")
"""What Tesseract reads in the middle of a word whose letters it does not know."""
_USUAL_CASE = re.compile(r"[A-Z]?[a-z]*|[A-Z]+")

ReadAlone = Callable[[float, float], list[LineWord]]
"""Reads what stands between two places of the line in Latin letters; empty if it cannot."""


def merge(words: list[LineWord], read_latin: ReadAlone) -> list[LineWord]:
    """The words of a Cyrillic line, those that are Latin replaced.

    Neighbours of a Latin word are doubted too: names and addresses are of several words.
    """
    merged = list(words)
    alone: dict[int, LineWord | None] = {}
    latin: set[int] = set()
    doubted = [at for at, word in enumerate(words) if _is_doubtful(word, is_first=at == 0)]
    while doubted:
        before = len(latin)
        for at in doubted:
            if at not in alone:
                alone[at] = joined(read_latin(words[at].start, _end_of(words, at)))
            read = alone[at]
            if read is not None and _replaces(read, words[at], _neighbours(words, latin, at)):
                merged[at] = read
                if _has_latin(read.text):
                    latin.add(at)
        beside = {n for at in latin for n in (at - 1, at + 1)} & set(range(len(words)))
        doubted = sorted(beside - latin) if len(latin) > before else []
    for at in alone.keys() - latin:
        if merged[at] is words[at]:
            merged[at] = _by_parts(words[at], read_latin)
    return _with_companies(_with_runs(merged, latin, read_latin))


def with_cyrillic(
    words: list[LineWord], read_cyrillic: Callable[[], list[LineWord]]
) -> list[LineWord]:
    """The words of a Latin line, with Russian ones where the letters of a word are doubtful."""
    if not any(map(_is_odd_latin, words)):
        return words
    merged: list[LineWord] = []
    for word in words:
        there = [w for w in read_cyrillic() if word.start <= (w.start + w.end) / 2 <= word.end]
        better = there and all(
            w.confidence >= _SURE and (w.is_known or w.confidence > weakest(word)) for w in there
        )
        merged += there if better and _is_odd_latin(word) else [word]
    return merged


def _is_doubtful(word: LineWord, *, is_first: bool) -> bool:
    """Whether the word was hard to read, is no Russian word, or may well be a Latin one.

    The first word of a line may be the label of what follows.
    """
    letters = any(map(str.isalpha, word.text))
    if word.confidence < _SURE:
        return True
    if not letters or is_settled(word):
        return False
    return not word.is_known or is_first or word.text.isupper()


def is_settled(word: LineWord) -> bool:
    """Whether the word is so long and so sure that reading it in Latin letters is of no use."""
    if word.confidence < _SETTLED or _ODD.search(word.text):
        return False
    if not word.is_known and word.text.isupper():
        return False  # they may be Latin letters of the same shapes
    parts = "".join(" " if c in _JOINTS else c for c in word.text).split()
    long = _LONG if word.is_known else _LONG_UNKNOWN
    return bool(parts) and all(sum(map(str.isalpha, part)) >= long for part in parts)


def _replaces(latin: LineWord, word: LineWord, neighbours: Sequence[bool]) -> bool:
    """Whether the Latin reading is the right one.

    neighbours: for each neighbour of letters, whether it is Latin.
    """
    letters = list(filter(str.isalpha, latin.text))
    if not letters:
        made_of_letters = any(map(str.isalpha, word.text)) and word.confidence >= _READ
        return latin.confidence > word.confidence and not made_of_letters
    if "№" in word.text and latin.text.startswith("No"):
        return any(neighbours)
    if word.confidence < _READ:
        odd = bool(_ODD.search(word.text))
        return latin.confidence >= _LATIN_LIKELY and (has_own(latin.text) or odd)
    if not "".join(letters).isascii() or weakest(latin) < _LETTER_SURE:
        return False
    if len(latin.text) < len(word.text):
        return False  # Cyrillic letters that look like no Latin ones are passed over
    if not is_shape_of(latin.text, word.text):
        more = len(letters) > sum(map(str.isalpha, word.text))
        own = sum(map(has_own, letters))
        return more or own >= _OWN_LETTERS * len(letters)
    if word.is_known:
        return len(letters) >= _TELLING and bool(neighbours) and all(neighbours)
    if not has_own(latin.text):
        return any(neighbours)
    return is_plain_latin(latin)


def is_plain_latin(word: LineWord) -> bool:
    """Whether each letter is surely one of the English alphabet, in the usual case."""
    letters = "".join(filter(str.isalpha, word.text))
    parts = re.findall("[A-Za-z]+", word.text)
    sure = not letters or (letters.isascii() and weakest(word) >= _LETTER_SURE)
    return sure and all(map(_USUAL_CASE.fullmatch, parts))


def _neighbours(words: list[LineWord], latin: set[int], at: int) -> list[bool]:
    """Whether the neighbours that have letters are Latin."""
    beside = [n for n in (at - 1, at + 1) if 0 <= n < len(words)]
    return [n in latin for n in beside if any(map(str.isalpha, words[n].text))]


def _by_parts(word: LineWord, read_latin: ReadAlone) -> LineWord:
    """The word with the Latin ones of its parts replaced: "USB-кабель"."""
    parts = [
        LineWord(tuple(part))
        for _, part in groupby(word.characters, lambda character: character.text in _JOINTS)
    ]
    if len(parts) == 1:
        return word
    characters: list[Character] = []
    for part in parts:
        alone = None if part.text[0] in _JOINTS else joined(read_latin(part.start, part.end))
        replaced = alone and _replaces(alone, part, ())
        chosen = alone.characters if alone and replaced else part.characters
        # What is read alone may have a bit of the joint, which comes by itself.
        characters += [c for c in chosen if c.text not in _JOINTS or chosen is part.characters]
    return LineWord(tuple(characters))


def _with_runs(words: list[LineWord], latin: set[int], read_latin: ReadAlone) -> list[LineWord]:
    """The words, with Latin ones that stand beside each other read at once, for their spaces."""
    complete: list[LineWord] = []
    for is_run, numbers in groupby(
        range(len(words)), lambda at: at in latin or not any(map(str.isalpha, words[at].text))
    ):
        run = list(numbers)
        while is_run and run and run[0] not in latin:
            complete.append(words[run.pop(0)])
        after: list[LineWord] = []
        while is_run and run and run[-1] not in latin:
            after.insert(0, words[run.pop()])
        alone = [words[at] for at in run]
        if is_run and len(run) > 1:
            together = read_latin(alone[0].start, _end_of(words, run[-1]))
            if together and all(weakest(word) >= _DOUBTFUL for word in together):
                alone = together
        complete += [*alone, *after]
    return complete


def _with_companies(words: list[LineWord]) -> list[LineWord]:
    for at, (word, following) in enumerate(pairwise(words)):
        if word.text == "000" and following.text[0] in _OPENING_QUOTES:
            words[at] = LineWord(tuple(replace(c, text="О") for c in word.characters))
    return words


def _end_of(words: list[LineWord], at: int) -> float:
    """Where a word ends at most: where words begin is right; where they end is not."""
    return words[at].end if at + 1 == len(words) else min(words[at].end, words[at + 1].start)


def _is_odd_latin(word: LineWord) -> bool:
    """Whether a word may be a Cyrillic one: "руб." reads as "pyá." or "py6."."""
    letters = "".join(filter(str.isalpha, word.text))
    if not letters:
        return False
    odd = not letters.isascii() or bool(re.search(r"[a-z]\d", word.text))
    return odd or weakest(word) < _DOUBTFUL


def _has_latin(text: str) -> bool:
    return any(letter.isascii() and letter.isalpha() for letter in text)


def weakest(word: LineWord) -> float:
    """The confidence of the least sure of the letters and digits."""
    return min((c.confidence for c in word.characters if c.text.isalnum()), default=0.0)
