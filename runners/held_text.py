"""Holds back what cannot be shown yet of a text that arrives in pieces."""


def overlap(text: str, mark: str) -> int:
    """How many characters at the end of `text` are the beginning of `mark`."""
    return next((n for n in range(len(mark) - 1, 0, -1) if text.endswith(mark[:n])), 0)


class Stripped:
    """Leaves out the white space at both ends of a text that arrives in pieces.

    The white space at the end of the text is held back until something follows it.
    """

    def __init__(self) -> None:
        self._held = ""
        self._started = False

    def add(self, piece: str) -> str:
        """Append a piece. Returns what can be shown now."""
        text = self._held + piece
        if not self._started:
            text = text.lstrip()
        shown = text.rstrip()
        self._started = self._started or bool(shown)
        self._held = text[len(shown) :]
        return shown
