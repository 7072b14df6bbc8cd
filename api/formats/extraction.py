"""Makes the JSON of POST /extract."""

import json
import math
import time
from collections.abc import Sequence
from typing import Any

from api.schemas.extraction import Extraction
from api.schemas.extras import extras
from common.constraints.fitting import fits
from common.messages import Answer, Constraint

_EXTRAS = {"finish_reason", "usage", "lines", "rotation", "source", "warning"}


def extraction(
    answer: Answer, constraint: Constraint, pages: Sequence[int], model: str, began: float
) -> Extraction:
    """The answer of /extract, which is checked against its schema.

    pages: their numbers. began: when the request came in, as of `time.perf_counter`.
    """
    data, whole = _parsed(answer.text)
    # As the model wrote it: the same data has other texts, of which the schema's grammar takes one.
    return Extraction(
        data=data,
        valid=whole and fits(constraint, answer.text),
        pages=list(pages),
        model=model,
        processing_time=round(time.perf_counter() - began, 3),
        text=None if whole else answer.text,
        **extras(answer, _EXTRAS),
    )


def _parsed(text: str) -> tuple[Any, bool]:
    """The value of a JSON text, and whether it is one."""
    try:
        return json.loads(text, parse_float=_finite, parse_constant=_finite), True
    except (ValueError, RecursionError):
        return None, False


def _finite(number: str) -> float:
    """Raises `ValueError` for a number that JSON could not be written with again."""
    value = float(number)
    if not math.isfinite(value):
        raise ValueError(number)
    return value
