"""Makes the text of a row while its tokens are made: whole characters, up to a stop text."""

from collections.abc import Callable, Sequence

from common.messages import ChosenToken, Piece
from runners.held_text import Stripped, overlap
from runners.sampling.logprobs import chosen_tokens
from runners.scheduling.row import Row
from runners.tool_calls.reader import CallReader


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
        held = max((overlap(text, stop) for stop in self._stops), default=0)
        self._held = text[len(text) - held :]
        return text[: len(text) - held]

    def rest(self) -> str:
        """The text held back, to be shown when no more pieces come."""
        return self._held


class AnswerText:
    """Makes the text of an answer from its tokens: whole characters, stripped, up to a stop text.

    Stop texts are looked for in what follows the first `min_tokens` tokens.
    """

    def __init__(
        self, text: Callable[[Sequence[int]], str], stops: Sequence[str], min_tokens: int
    ) -> None:
        self.count = 0
        """How many tokens were added."""
        self._detokeniser = Detokeniser(text)
        self._stop = StopTexts(stops)
        self._stripped = Stripped()
        self._min_tokens = min_tokens
        self._shown: list[str] = []

    @property
    def met(self) -> bool:
        """Whether a stop text was there."""
        return self._stop.met

    @property
    def shown(self) -> str:
        """All that was shown."""
        return "".join(self._shown)

    def add(self, token: int) -> str:
        """Append a token. Returns what can be shown now."""
        self.count += 1
        piece = self._detokeniser.add(token)
        if self.count > self._min_tokens:
            piece = self._stop.add(piece)
        return self._show(piece)

    def end(self) -> str:
        """The rest of the text, when no more tokens come."""
        return self._show(self._stop.rest())

    def _show(self, piece: str) -> str:
        piece = self._stripped.add(piece)
        self._shown.append(piece)
        return piece


class StreamedAnswer:
    """Makes the pieces of one answer of a stream while the tokens of its row come."""

    def __init__(
        self, text: AnswerText, row: Row, data: Callable[[int], bytes], may_call: bool
    ) -> None:
        """data: the UTF-8 of a token. may_call: whether the text may call functions."""
        self.text = text
        self.tokens: list[ChosenToken] = []
        """Those that came, if their log probabilities are wanted."""
        self._row = row
        self._data = data
        self._told = 0
        """How many of them were in a piece."""
        self._calls = CallReader() if may_call else None

    def add(self, token: int) -> list[Piece]:
        """Append a token. Returns the pieces that can be shown now."""
        if self._row.sampling.logprobs is not None:
            logprobs = self._row.logprobs[len(self.tokens)]
            self.tokens += chosen_tokens([token], [logprobs], self._data)
        shown = self.text.add(token)
        if not shown and not self.text.met:
            return []
        return self._pieces(shown, ends=self.text.met)

    def end(self) -> list[Piece]:
        """The last pieces, if something is left."""
        return self._pieces(self.text.end(), ends=True)

    def _pieces(self, shown: str, ends: bool) -> list[Piece]:
        if self._calls is None:
            pieces = [Piece(text=shown)] if shown else []
        else:
            pieces = self._calls.add(shown) + (self._calls.end() if ends else [])
        tokens, self._told = self.tokens[self._told :], len(self.tokens)
        if tokens:
            last = pieces.pop() if pieces else Piece(text="")
            pieces.append(last.model_copy(update={"tokens": tuple(tokens)}))
        return pieces


def strip_cut_character(text: str) -> str:
    """The text without a last character of which bytes are missing."""
    return text.rstrip("\ufffd")
