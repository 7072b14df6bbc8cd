"""How Qwen's models are asked to read a page."""

import langcodes

_INSTRUCTION = (
    "Read all the text in this image. Keep its structure: lines, paragraphs, lists and tables. "
    "Answer with the text alone, in its own language, without comments."
)


def instruction(language: str | None) -> str:
    """The words after a page that is to be read. language: its ISO 639 code, if it is known."""
    if language is None:
        return _INSTRUCTION
    return f"{_INSTRUCTION} The text is in {langcodes.get(language).display_name()}."
