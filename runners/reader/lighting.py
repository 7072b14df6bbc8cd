"""Turns a page into dark ink on evenly white paper, however it was lit."""

import numpy as np
from PIL import Image, ImageFilter, ImageOps, ImageStat

_REDUCTION = 8
"""The paper's brightness is measured on a page that is so many times smaller."""
_LIGHTEST = ImageFilter.MaxFilter(9)
"""The lightest pixel around each one of the reduced page, so far that it is paper, not ink."""
_DARKEST = ImageFilter.MinFilter(9)
_SHADOW = 40
"""Grey levels of 255 by which the paper's brightness may differ before the page is levelled."""
_DARKEST_PAPER = 48
"""Grey level of 255; what is darker is not paper in a shadow."""


def even_out(grey: Image.Image) -> Image.Image:
    """The grey page with dark ink on white paper: inverted if need be, and without shadows."""
    return _without_shadows(_dark_on_light(grey))


def _dark_on_light(grey: Image.Image) -> Image.Image:
    """The page, inverted if its ink is lighter than its paper; paper is most of any part."""
    reduced = grey.reduce(_REDUCTION)
    lightest, darkest = reduced.filter(_LIGHTEST), reduced.filter(_DARKEST)
    mean, light, dark = (ImageStat.Stat(part).mean[0] for part in (reduced, lightest, darkest))
    return ImageOps.invert(grey) if mean - dark < light - mean else grey


def _without_shadows(grey: Image.Image) -> Image.Image:
    """The page as if its paper were white everywhere: a photographed page has shadows."""
    lightest = grey.reduce(_REDUCTION).filter(_LIGHTEST)
    paper = np.asarray(lightest.filter(ImageFilter.GaussianBlur(8)))
    if np.ptp(paper) < _SHADOW:
        return grey
    light = np.asarray(Image.fromarray(paper).resize(grey.size), np.float32)
    levelled = np.asarray(grey) * (255 / light.clip(_DARKEST_PAPER))
    return Image.fromarray(levelled.clip(0, 255).astype(np.uint8))
