"""Defaults and choices of parameters that several routes share."""

from typing import Literal

TEMPERATURE = 0.7
"""Temperature of /chat and /v1/chat/completions."""
TextLayerChoice = Literal["auto", "never"]
TEXT_LAYER = "`auto` takes a PDF page's own text layer where it is sound; `never` reads its image"
"""What the choice means, as the description of the parameter."""
MAX_TOKENS = 2048
"""Most tokens of an answer of /ocr (for each page) and /v1/chat/completions."""
