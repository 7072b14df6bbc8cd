"""Splits texts into words and stems."""

import re
from functools import cache
from typing import Literal

import snowballstemmer

Language = Literal["en", "ru"]

_WORD = re.compile(r"\w+|№|#")
_DIVIDED = re.compile(r"\b(e|sub)[\s-]+(mail|total)")
"""Words that some write as two."""
_TO_PAY = {
    re.compile(r"\b(?:amount|balance|total) due\b"): "total",
    re.compile(r"\bк оплате\b"): "итого",
}
"""Phrases for the total."""


def language_of(text: str) -> Language:
    """The language that most letters of the text belong to."""
    cyrillic = len(re.findall(r"[а-яё]", text, re.IGNORECASE))
    return "ru" if cyrillic > len(re.findall(r"[a-z]", text, re.IGNORECASE)) else "en"


def words_of(text: str) -> list[str]:
    """The words of the text in lower case; "ё" counts as "е", and "№" as a word."""
    text = _DIVIDED.sub(r"\1\2", text.lower().replace("ё", "е"))
    for phrase, word in _TO_PAY.items():
        text = phrase.sub(word, text)
    return _WORD.findall(text)


def stem(word: str) -> str:
    return str(_stemmer(language_of(word)).stemWord(word))


def stems_of(text: str) -> frozenset[str]:
    return frozenset(map(stem, words_of(text)))


@cache
def _stemmer(language: Language) -> "snowballstemmer.stemmer":
    return snowballstemmer.stemmer({"en": "english", "ru": "russian"}[language])
