"""Defaults and choices of parameters that several routes share."""

from typing import Literal

from common.catalog import CHAT_TEMPERATURE

TEMPERATURE = f"By default as the model's authors have it, else {CHAT_TEMPERATURE}"
"""What holds for a conversation without a temperature, as a part of a description."""
TextLayerChoice = Literal["auto", "never"]
TEXT_LAYER = "`auto` takes a PDF page's own text layer where it is sound; `never` reads its image"
"""What the choice means, as the description of the parameter."""
MAX_TOKENS = 2048
"""Most tokens of an answer of /v1/chat/completions."""
MOST_READING_TOKENS = 32_768
"""What `max_tokens` of /ocr may be at most."""
