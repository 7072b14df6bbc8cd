"""Finds out when a row repeats the same tokens without end, as in a loop. Imports no torch."""

import numpy as np

LONGEST_PERIOD = 256
"""Tokens of the longest loop that is recognised: a paragraph, or the widest line of a table."""
_PERIODS = np.arange(1, LONGEST_PERIOD + 1)
_REPEATS = np.clip(np.ceil(512 / _PERIODS), 3, 128)
"""How often each period must be seen to count as a loop. Real pages repeat themselves too (dotted
leaders, empty cells, the lines of a blank form), so it has to be 512 tokens long. Loops of up to
three tokens count after 128 repeats, loops of a paragraph after 3."""
_LOOP = (_REPEATS - 1) * _PERIODS


class Repetition:
    """Watches the tokens of one row for a loop at their end.

    For every period at once, it counts for how many tokens the row has equalled itself one period
    earlier. That costs one comparison of `LONGEST_PERIOD` integers a token.
    """

    def __init__(self, max_new_tokens: int) -> None:
        self._tokens = np.full(LONGEST_PERIOD + max_new_tokens, -1)
        self._end = LONGEST_PERIOD
        self._equal = np.zeros(LONGEST_PERIOD, dtype=np.int64)

    def add(self, token: int) -> int | None:
        """Append a token.

        If it completes a loop, returns how many tokens of the row remain when the loop is cut to
        one period; otherwise None.
        """
        before = self._tokens[self._end - LONGEST_PERIOD : self._end][::-1]
        self._equal = np.where(before == token, self._equal + 1, 0)
        self._tokens[self._end] = token
        self._end += 1
        looping = self._equal >= _LOOP
        if not looping.any():
            return None
        return self._end - LONGEST_PERIOD - int(self._equal[looping.argmax()])
