"""Tells a row that repeats itself without end from one whose page repeats. Imports no torch."""

import re
from collections.abc import Callable, Sequence

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

LONGEST_PERIOD = 256
"""Tokens of the longest loop that is recognised: a paragraph, or the widest line of a table."""
_PERIODS = np.arange(1, LONGEST_PERIOD + 1)
_REPEATS = np.clip(np.ceil(512 / _PERIODS), 3, 128)
"""How often each period must be seen to count as a loop, if it is no table's row. Real pages repeat
themselves too (dotted leaders, empty cells, the lines of a blank form), so it has to be 512 tokens
long. Loops of up to three tokens count after 128 repeats, loops of a paragraph after 3."""
_LOOP = ((_REPEATS - 1) * _PERIODS).astype(np.int32)
TABLE_ROWS = 256
"""How often the row of a table must be seen to count as a loop: more rows than a page holds."""
_SHOWN = np.maximum(2 * _PERIODS, 32)
"""After so many equal tokens it may be a loop: the next ones are held back. Every loop is shown
this far, because tokens that a client has seen cannot be taken back."""
_BLOCK = 16
"""Tokens that are compared at once."""

_END_OF_ROW = re.compile(r"\n|\\n|\\\\|</tr>")
"""In plain text and Markdown, in the JSON of a layout, in LaTeX, in HTML."""
_END_OF_CELL = re.compile(r"[|\t&]|</t[dh]>")
_FEW_TOKENS = 16
"""A line of at most so many different tokens may be a row of a table in plain text, which has
numbers and no marks of cells. A sentence has more."""

Text = Callable[[Sequence[int]], str]
"""Turns tokens into their text."""


class Repetition:
    """Watches the tokens of one row for a loop at their end.

    For every period at once, it counts for how many tokens the row has equalled itself one period
    earlier. Tokens are compared in blocks, so that most tokens cost nothing.

    Whether a row still repeats what a page has, or is in a loop, can be told only later. So tokens
    that may belong to a loop are held back until the loop is broken, when all of them are the
    page's, or is found to be endless, when none of them is.
    """

    def __init__(self, max_new_tokens: int) -> None:
        self.shown = 0
        """How many of the tokens are not held back."""
        self._tokens = np.full(LONGEST_PERIOD + max_new_tokens, -1, dtype=np.int32)
        self._checked = self._end = LONGEST_PERIOD
        self._equal = np.zeros(LONGEST_PERIOD, dtype=np.int32)
        self._holds = False
        self._period = 0
        """The period that was last found to loop; 0 if none does."""
        self._is_row = False
        """Whether that period is a row of a table."""

    def add(self, token: int) -> None:
        """Append a token."""
        self._tokens[self._end] = token
        self._end += 1

    def is_endless(self, text: Text, is_cut: bool) -> bool:
        """Returns whether the row is in a loop; `shown` says how much of it is sensible.

        It looks at the tokens since the last call, if they are a block. text: asked only about a
        loop. is_cut: whether the row ends now, though not by itself; then it looks at fewer tokens
        too, and a table that goes on without end until there is a loop, however few its rows.
        """
        if self._end - self._checked >= _BLOCK or (is_cut and self._end > self._checked):
            self._compare()
        elif not self._holds:
            self.shown = self._end - LONGEST_PERIOD
        period = self._looping_period() if self._holds else 0
        if not period:
            self._period = 0
            return False
        if period != self._period:
            self._period = period
            tokens = self._tokens[self._end - 2 * period : self._end].tolist()
            self._is_row = is_table_row(text(tokens), len(set(tokens)))
        needed = (TABLE_ROWS - 1) * period if self._is_row and not is_cut else 0
        return bool(self._equal[period - 1] >= needed)

    def _looping_period(self) -> int:
        """The shortest period that has been seen often enough for a loop; 0 if there is none."""
        looping = self._equal >= _LOOP
        return int(looping.argmax()) + 1 if looping.any() else 0

    def _compare(self) -> None:
        count = self._end - self._checked
        first, self._checked = self._checked, self._end
        earlier = sliding_window_view(self._tokens[first - LONGEST_PERIOD :], LONGEST_PERIOD)
        differs = earlier[:count, ::-1] != self._tokens[first : self._end, None]
        broken = differs.any(0)
        self._equal = np.where(broken, differs[::-1].argmax(0), self._equal + count)
        beyond = int((self._equal - _SHOWN).max())
        self._holds = beyond >= 0
        self.shown = max(self.shown, self._end - LONGEST_PERIOD - max(beyond, 0))


def is_table_row(text: str, kinds: int) -> bool:
    """Whether a text that repeats itself can be a row of a table.

    text: of two periods, so that no mark of it is cut. kinds: how many different tokens it has.
    """
    if not text.strip() or not _END_OF_ROW.search(text):
        return False
    return kinds <= _FEW_TOKENS or bool(_END_OF_CELL.search(text))
