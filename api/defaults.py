"""Defaults of parameters that several routes share."""

TEMPERATURE = 0.7
"""Temperature of /chat and /v1/chat/completions."""
MAX_TOKENS = 2048
"""Most tokens of an answer of /ocr (for each page) and /v1/chat/completions."""
