"""Takes the upright rules of tables and forms away, which read as letters at the ends of words."""

import cv2
import numpy as np
from PIL import Image

from runners.reader.lines.quads import Quad, size_of
from runners.reader.pages.upright import by_orientation, likely_direction

_LONGER = 1.5
"""How many times longer a rule is than the highest line of text, at least."""
_THINNER = 0.25
"""Width of a rule, in heights of the lowest line, at most."""
_LEANING = 3.0
"""Degrees by which the lines of a page whose rules are upright lean at most."""
_CONTRAST = 48
"""Difference, of 255, of a rule from what is beside it."""
_STRIP = 256
"""Rows that are filled at a time, as a large page would take several times its memory."""


def without_rules(image: Image.Image, quads: list[Quad]) -> Image.Image:
    """The RGB or grey page, with what lies beside its upright rules in their place.

    quads: the lines of text, which tell how long and how wide a rule is; at least one. Where some
    are not upright, a row of their letters looks like a rule, and the page stays as it is.
    """
    if len(by_orientation(quads)) > 1 or abs(likely_direction(quads)) > _LEANING:
        return image
    heights = [min(size_of(quad)) for quad in quads]
    width = max(3, round(_THINNER * min(heights))) | 1  # kernels of even sizes move what they find
    length = round(_LONGER * max(heights)) | 1
    across = cv2.getStructuringElement(cv2.MORPH_RECT, (2 * width + 1, 1))
    crossing = cv2.getStructuringElement(cv2.MORPH_RECT, (1, width // 2 | 1))
    along = cv2.getStructuringElement(cv2.MORPH_RECT, (1, length))
    grey = np.asarray(image.convert("L"))
    page = image
    # Closing fills what is thin and dark with what is beside it, opening what is thin and light.
    for filling in (cv2.MORPH_CLOSE, cv2.MORPH_OPEN):
        differs = cv2.absdiff(grey, cv2.morphologyEx(grey, filling, across)) > _CONTRAST
        # Where a rule crosses another, nothing is beside it.
        thin = cv2.morphologyEx(differs.view(np.uint8), cv2.MORPH_CLOSE, crossing)
        rules = cv2.morphologyEx(thin, cv2.MORPH_OPEN, along)
        if rules.any():
            page = image.copy() if page is image else page
            mask = cv2.dilate(rules, np.ones((3, 3), np.uint8)) * np.uint8(255)
            for top in range(0, page.height, _STRIP):
                strip = page.crop((0, top, page.width, min(page.height, top + _STRIP)))
                filled = Image.fromarray(cv2.morphologyEx(np.asarray(strip), filling, across))
                page.paste(filled, (0, top), Image.fromarray(mask[top : top + _STRIP]))
    return page
