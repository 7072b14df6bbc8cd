"""Makes the text of a row while its tokens are made: whole characters, up to a stop text."""

from collections.abc import Callable, Sequence


class Detokeniser:
    """Turns tokens of a byte-level vocabulary into whole characters, token by token.

    A token may end in the middle of a character, which then decodes to U+FFFD at the end of the
    text. Such tokens are held back until the character is complete, so that no other token is ever
    decoded twice. Joined, the pieces are `strip_cut_character` of the text of all tokens.
    """

    def __init__(self, text: Callable[[Sequence[int]], str]) -> None:
        self._text = text
        self._held: list[int] = []

    def add(self, token: int) -> str:
        """Append a token. Returns the characters that it completes, if any."""
        self._held.append(token)
        text = self._text(self._held)
        if text != strip_cut_character(text):
            return ""
        self._held.clear()
        return text


class StopTexts:
    """Ends a text that arrives in pieces before the first stop text in it.

    The end of the text is held back while it may be the beginning of a stop text.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = stops
        self._held = ""
        self.met = False

    def add(self, piece: str) -> str:
        """Append a piece. Returns what can be shown now. Sets `met` at a stop text."""
        text = self._held + piece
        found = [place for stop in self._stops if (place := text.find(stop)) >= 0]
        if found:
            self.met = True
            self._held = ""
            return text[: min(found)]
        held = max((_overlap(text, stop) for stop in self._stops), default=0)
        self._held = text[len(text) - held :]
        return text[: len(text) - held]

    def rest(self) -> str:
        """The text held back, to be shown when no more pieces come."""
        return self._held


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


def _overlap(text: str, stop: str) -> int:
    """How many characters at the end of `text` are the beginning of `stop`."""
    return next((n for n in range(len(stop) - 1, 0, -1) if text.endswith(stop[:n])), 0)


def strip_cut_character(text: str) -> str:
    """The text without a last character of which bytes are missing."""
    return text.rstrip("\ufffd")
