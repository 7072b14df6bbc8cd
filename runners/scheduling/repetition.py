"""Finds out when a row repeats the same tokens without end, as in a loop. Imports no torch."""

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

LONGEST_PERIOD = 256
"""Tokens of the longest loop that is recognised: a paragraph, or the widest line of a table."""
_PERIODS = np.arange(1, LONGEST_PERIOD + 1)
_REPEATS = np.clip(np.ceil(512 / _PERIODS), 3, 128)
"""How often each period must be seen to count as a loop. Real pages repeat themselves too (dotted
leaders, empty cells, the lines of a blank form), so it has to be 512 tokens long. Loops of up to
three tokens count after 128 repeats, loops of a paragraph after 3."""
_LOOP = ((_REPEATS - 1) * _PERIODS).astype(np.int32)


_BLOCK = 16
"""Tokens that are compared at once. A loop that ends a row is at least 127 tokens long."""


class Repetition:
    """Watches the tokens of one row for a loop at their end.

    For every period at once, it counts for how many tokens the row has equalled itself one period
    earlier. Tokens are compared in blocks, so that most tokens cost nothing; the loop is cut where
    it would be if each token were compared at once.
    """

    def __init__(self, max_new_tokens: int) -> None:
        self._tokens = np.full(LONGEST_PERIOD + max_new_tokens, -1, dtype=np.int32)
        self._checked = self._end = LONGEST_PERIOD
        self._equal = np.zeros(LONGEST_PERIOD, dtype=np.int32)

    def add(self, token: int) -> None:
        """Append a token."""
        self._tokens[self._end] = token
        self._end += 1

    def find(self, at_end: bool) -> int | None:
        """Look for a loop in the tokens since the last call, if they are a block.

        at_end: whether the row ends, so that fewer tokens count too. If a loop was completed,
        returns how many tokens of the row remain when the loop is cut to one period; otherwise
        None.
        """
        count = self._end - self._checked
        if count < _BLOCK and not (at_end and count):
            return None
        first, self._checked = self._checked, self._end
        earlier = sliding_window_view(self._tokens[first - LONGEST_PERIOD :], LONGEST_PERIOD)
        differs = earlier[:count, ::-1] != self._tokens[first : self._end, None]
        broken = differs.any(0)
        leading = np.where(broken, differs.argmax(0), count)
        needed = _LOOP - self._equal  # tokens of the block with which a period's loop is complete
        looping = np.flatnonzero(leading >= needed)
        if len(looping):
            period = looping[needed[looping].argmin()]
            return int(first - LONGEST_PERIOD + needed[period] - _LOOP[period])
        self._equal = np.where(broken, differs[::-1].argmax(0), self._equal + count)
        return None
