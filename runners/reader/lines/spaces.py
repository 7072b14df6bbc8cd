"""Finds spaces that a recogniser passed over, by the paper between two letters."""

from itertools import pairwise
from statistics import median

import numpy as np
from numpy.typing import NDArray

from runners.reader.lines.words import Character

_LIKE_A_SPACE = 0.85
"""Share of the usual space of the line that another one has at least."""
_NARROWEST = 0.18
"""Width of a space, in heights of the line."""
_SURELY = 0.3
"""Width of a space in a line where none was read."""
_WIDER = 2.5
"""How many times wider than between most letters the paper between two words is."""
_MOST = 0.75
"""Share of the letters: narrow ones of typewriters stand apart, too."""

_WIDER_AT_NUMBER = 1.75
"""How many times wider than between most letters the paper between a word and a number is."""
_AFTER_A_WORD = frozenset(".,;:!?)]}%»”’…")
"""What no space stands before, however far it is from the letter before it."""


def with_passed_over(
    characters: list[Character],
    ink: NDArray[np.bool_],
    height: int,
    *,
    before_numbers_only: bool = False,
) -> list[Character]:
    """The characters of a line, with a space wherever the paper is as wide as one.

    ink: which columns of the line have ink, see `columns_with_ink`. before_numbers_only: all other
    spaces were read.
    """
    letters = [n for n, character in enumerate(characters) if not character.text.isspace()]
    if len(letters) < 2:
        return characters
    gaps = _gaps([characters[n].middle for n in letters], ink, height)
    parted = [right - left > 1 for left, right in pairwise(letters)]
    spaces = [gap for gap, is_parted in zip(gaps, parted, strict=True) if is_parted]
    narrow = [gap for gap, is_parted in zip(gaps, parted, strict=True) if not is_parted]
    if not narrow:
        return characters
    wide = [gap for gap in spaces if gap > _NARROWEST]
    least = _LIKE_A_SPACE * median(wide) if wide else _SURELY
    least = max(least, _WIDER * float(np.quantile(narrow, _MOST)))
    # Before a number, less is enough: recognisers part words as they know them from texts.
    at_number = max(
        _WIDER_AT_NUMBER * median(narrow), _LIKE_A_SPACE * median(spaces) if spaces else 0.0
    )
    complete = list(characters)
    for at in reversed(range(len(gaps))):
        # The place of a letter may be so wrong that the paper of the space beside it seems to be on
        # its other side.
        is_beside = any(
            parted[n] and gaps[n] <= _NARROWEST for n in (at - 1, at + 1) if 0 <= n < len(gaps)
        )
        left, right = letters[at], letters[at + 1]
        if characters[right].text in _AFTER_A_WORD:
            continue
        begins_number = characters[left].text.isalpha() and characters[right].text.isdigit()
        if before_numbers_only and not begins_number:
            continue
        enough = at_number if begins_number else least
        if gaps[at] >= enough and not parted[at] and not is_beside:
            place = characters[left].end, characters[right].start
            complete.insert(right, Character(" ", 1.0, min(place), max(place)))
    return complete


def _gaps(middles: list[float], ink: NDArray[np.bool_], height: int) -> list[float]:
    """The width of the widest paper between each character and the next, in heights."""
    gaps = [0.0] * (len(middles) - 1)
    edges = np.flatnonzero(np.diff(np.pad(~ink, 1).astype(int))).reshape(-1, 2)
    for start, end in (edges / height).tolist():
        pair = int(np.searchsorted(middles, (start + end) / 2)) - 1
        if 0 <= pair < len(gaps):
            gaps[pair] = max(gaps[pair], end - start)
    return gaps
