"""Finds out in which direction the lines of a page are read."""

import cmath
import math
from collections.abc import Callable

import numpy as np

from runners.reader.lines.quads import Quad, direction_of, size_of

_OBLONG = 1.5
"""How many times longer than high a line is whose direction is trusted."""
_LONG = 8.0
"""How many times longer than high a line is whose direction is exact."""
_SHORT_LEAN = 5.0
"""Degrees by which the outline of a short word may lean though the word does not."""
_ACROSS = 4.0
"""How many times longer than high a line is that may run across the others."""
_FEWEST_ACROSS = 3
"""Fewest lines that are read across the others."""
_WELL = 0.75
"""Confidence of what reads as text; that of lines upside down stays under 0.6."""


def likely_direction(quads: list[Quad]) -> float:
    """Degrees, -90 to 90, clockwise from rightwards, along which most of the text lies."""
    sizes = np.array([size_of(quad) for quad in quads]).reshape(-1, 2)
    lengths = sizes.max(axis=1)
    oblong = lengths > _OBLONG * sizes.min(axis=1)
    if not oblong.any():
        return 0.0
    oblong &= lengths >= lengths[oblong].max() / 2  # the outline of a short word leans as it likes
    along = np.array(
        [
            direction_of(quad) + (90 if height > width else 0)
            for quad, (width, height) in zip(quads, sizes, strict=True)
        ]
    )[oblong]
    weights = lengths[oblong] ** 2
    # A direction and its opposite are the same here, so that the doubled angles are averaged.
    mean = cmath.phase(complex((weights * np.exp(2j * np.radians(along))).sum())) / 2
    beside = (along - math.degrees(mean) + 90) % 180 - 90
    order = np.argsort(beside)
    middle = order[np.searchsorted(weights[order].cumsum(), weights.sum() / 2)]
    direction = float((math.degrees(mean) + beside[middle] + 90) % 180 - 90)
    if not (lengths > _LONG * sizes.min(axis=1)).any():  # the outlines of short words lean
        skew = skew_of(direction)
        return direction if abs(skew) > _SHORT_LEAN else direction - skew
    return direction


def by_orientation(quads: list[Quad]) -> list[list[int]]:
    """Numbers of the lines along the page's direction and, if there are several, across it."""
    along = likely_direction(quads)
    groups: tuple[list[int], list[int]] = ([], [])
    for number, quad in enumerate(quads):
        width, height = size_of(quad)
        direction = direction_of(quad) + (90 if height > width else 0)
        apart = abs((direction - along + 90) % 180 - 90)
        across = apart > 45 and max(width, height) > _ACROSS * min(width, height)
        groups[across].append(number)
    if len(groups[1]) < _FEWEST_ACROSS:
        return [list(range(len(quads)))]
    return list(groups)


def skew_of(direction: float) -> float:
    """Degrees clockwise by which a direction leans from the nearest quarter turn."""
    return direction - 90 * round(direction / 90)


def reading_direction(quads: list[Quad], how_well: Callable[[float], float]) -> float:
    """Degrees clockwise from rightwards in which the lines are read.

    how_well: reads some lines in a direction and returns the confidence. A page that lies on its
    side or upside down has to read well, and better than as it lies.
    """
    along = likely_direction(quads)
    if abs(along) <= 45:
        best = how_well(along)
        if best >= _WELL:
            return along
        other = along + 180 if along <= 0 else along - 180
        turned = how_well(other)
        return other if turned >= _WELL and turned > best else along
    opposite = along - 180 if along > 0 else along + 180
    ways = {way: how_well(way) for way in (along, opposite)}
    best_way = max(ways, key=ways.__getitem__)
    return best_way if ways[best_way] >= _WELL else 0.0
