"""Finds out when a text repeats itself without end, as in a loop."""

import re
from collections.abc import Sequence

from runners.scheduling.repetition import Repetition

_WORD = re.compile(r"\w{1,16}|\s{1,16}|[^\w\s]{1,16}")
"""A piece of text of about the length of a token. What is repeated is cut into equal pieces."""
_WORDS_PER_TOKEN = 4
"""A text of more words than so many times its most tokens is not watched any more."""


class LoopGuard:
    """Watches a text that arrives in pieces, of whose tokens nothing is known, for a loop."""

    def __init__(self, max_tokens: int) -> None:
        self.is_endless = False
        """Whether the text was in a loop; what was returned of it is its sensible part."""
        self._left = max_tokens * _WORDS_PER_TOKEN
        self._repetition = Repetition(self._left)
        self._numbers: dict[str, int] = {}
        self._texts: list[str] = []
        """The text of each number."""
        self._words: list[str] = []
        self._returned = 0
        """Number of words that were returned."""
        self._rest = ""
        """The last word, which the next piece may go on with."""

    def add(self, piece: str) -> str:
        """Append a piece. Returns what is known to be no part of a loop."""
        *words, self._rest = _WORD.findall(self._rest + piece) or [""]
        for word in words:
            self._watch(word, is_cut=False)
        return self._shown()

    def end(self, is_cut: bool) -> str:
        """Returns the rest. is_cut: whether the text ends, but not by itself."""
        if self._rest:
            self._watch(self._rest, is_cut)
        if not self.is_endless:
            words, self._returned = self._words[self._returned :], len(self._words)
            return "".join(words)
        return self._shown()

    def _watch(self, word: str, is_cut: bool) -> None:
        self._words.append(word)
        if self._left and not self.is_endless:
            self._left -= 1
            if word not in self._numbers:
                self._numbers[word] = len(self._texts)
                self._texts.append(word)
            self._repetition.add(self._numbers[word])
            self.is_endless = self._repetition.is_endless(self._text, is_cut)

    def _shown(self) -> str:
        end = self._repetition.shown if self._left or self.is_endless else len(self._words)
        words, self._returned = self._words[self._returned : end], max(self._returned, end)
        return "".join(words)

    def _text(self, numbers: Sequence[int]) -> str:
        return "".join(self._texts[number] for number in numbers)
