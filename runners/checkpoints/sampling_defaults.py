"""Decides how tokens are chosen where a request does not say it: as the model's authors do."""

import logging
import math
from dataclasses import fields, replace
from typing import Literal

from transformers import GenerationConfig

from common.catalog import CHAT_TEMPERATURE, SamplingParameters

logger = logging.getLogger(__name__)

NEUTRAL = SamplingParameters(
    temperature=CHAT_TEMPERATURE,
    top_p=1.0,
    top_k=0,
    min_p=0.0,
    repetition_penalty=1.0,
    frequency_penalty=0.0,
    presence_penalty=0.0,
    min_tokens=0,
)
"""What holds where nobody says anything."""
_READING = SamplingParameters(temperature=0.0)
"""The same page gives the same text, unless its request asks for something else."""
_RANGES: dict[str, tuple[float, float]] = {
    "temperature": (0, 2),
    "top_p": (0, 1),
    "top_k": (0, math.inf),
    "min_p": (0, 1),
    "repetition_penalty": (0.01, 10),
}
"""The parameters that a generation config may have, and their smallest and largest values."""


def parameters_of(
    task: Literal["ocr", "chat"],
    asked: SamplingParameters,
    checkpoint: SamplingParameters,
    authors: SamplingParameters,
) -> SamplingParameters:
    """All parameters of a request: each from the first of these that says it.

    asked: what the request says. checkpoint: what the checkpoint's generation config says.
    authors: what the catalog says that the model's authors use for conversations.
    """
    order = (asked, checkpoint, authors) if task == "chat" else (asked, _READING, checkpoint)
    chosen = NEUTRAL
    for said in reversed(order):
        given = {field.name: getattr(said, field.name) for field in fields(said)}
        chosen = replace(chosen, **{k: value for k, value in given.items() if value is not None})
    return chosen


def checkpoint_parameters(config: GenerationConfig) -> SamplingParameters:
    """What a checkpoint's generation config says; a value that makes no sense is passed over."""
    said: dict[str, float] = {}
    for name, (low, high) in _RANGES.items():
        value = getattr(config, name, None)
        if isinstance(value, int | float) and low <= value <= high:
            said[name] = value
        elif value is not None:
            logger.warning("The generation config says %s=%r, which is passed over", name, value)
    if config.do_sample is False:
        said["temperature"] = 0.0
    return SamplingParameters(**said)  # type: ignore[arg-type]
