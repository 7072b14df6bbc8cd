"""Finds out when a text repeats itself without end, as in a loop."""

import re

from runners.scheduling.repetition import Repetition

_WORD = re.compile(r"\w{1,16}|\s{1,16}|[^\w\s]{1,16}")
"""A piece of text of about the length of a token. What is repeated is cut into equal pieces."""
_WORDS_PER_TOKEN = 4
"""A text of more words than so many times its most tokens is not watched any more."""


class LoopGuard:
    """Watches a text that arrives in pieces, of whose tokens nothing is known, for a loop."""

    def __init__(self, max_tokens: int) -> None:
        self._left = max_tokens * _WORDS_PER_TOKEN
        self._repetition = Repetition(self._left)
        self._numbers: dict[str, int] = {}
        self._words: list[str] = []
        self._rest = ""
        """The last word, which the next piece may go on with."""

    def add(self, piece: str) -> str | None:
        """Append a piece. Returns the sensible part of the text once there is a loop."""
        *words, self._rest = _WORD.findall(self._rest + piece) or [""]
        return self._watch(words, at_end=False)

    def end(self) -> str | None:
        """Returns the sensible part of the text if it ends, not by itself, with a loop."""
        words, self._rest = [self._rest] if self._rest else [], ""
        return self._watch(words, at_end=True)

    def _watch(self, words: list[str], at_end: bool) -> str | None:
        for number, word in enumerate(words, 1):
            if not self._left:
                return None
            self._left -= 1
            self._words.append(word)
            self._repetition.add(self._numbers.setdefault(word, len(self._numbers)))
            kept = self._repetition.find(at_end=at_end and number == len(words))
            if kept is not None:
                return "".join(self._words[:kept])
        return None
