"""Reads the function calls out of an answer while it is made."""

import json
from enum import Enum, auto

from common.messages import CallPiece, Piece, ToolCall
from runners.held_text import overlap
from runners.tool_calls.qwen import CLOSING, HEAD, OPENING


class _State(Enum):
    TEXT = auto()
    HEAD = auto()
    ARGUMENTS = auto()
    END = auto()


class CallReader:
    """Parts the text of an answer, which arrives in pieces, into plain text and function calls."""

    def __init__(self) -> None:
        self._state = _State.TEXT
        self._held = ""
        """Text that is not yet told what it is."""
        self._value = _JsonValue()
        self._calls: list[ToolCall] = []
        self._text = ""

    @property
    def text(self) -> str:
        """The plain text so far."""
        return self._text

    @property
    def calls(self) -> tuple[ToolCall, ...]:
        """The calls so far; the arguments of the last may not be whole."""
        return tuple(self._calls)

    def add(self, piece: str) -> list[Piece]:
        """Append a piece. Returns what can be shown now."""
        self._held += piece
        shown: list[Piece] = []
        while self._step(shown):
            pass
        return shown

    def end(self) -> list[Piece]:
        """What was held back, as no more pieces come. An opening without a call counts as text."""
        held, self._held = self._held, ""
        if self._state is _State.HEAD:
            held = OPENING + held
        if not held or self._state in (_State.ARGUMENTS, _State.END):
            return []
        return self._plain(held.rstrip() if self._calls else held)

    def _step(self, shown: list[Piece]) -> bool:
        """Deals with the held text. Returns False if more of it is needed."""
        match self._state:
            case _State.TEXT:
                before, opening, after = self._held.partition(OPENING)
                if opening:
                    shown += self._plain(before.rstrip())
                    self._held, self._state = after, _State.HEAD
                    return True
                # White space may be what parts a call from the text before it.
                sure = before[: len(before) - overlap(before, OPENING)].rstrip()
                shown += self._plain(sure)
                self._held = before.removeprefix(sure)
                return False
            case _State.HEAD:
                if not (head := HEAD.match(self._held)):
                    return False
                call = ToolCall(name=json.loads(head[1]), arguments="")
                self._calls.append(call)
                shown.append(self._call_piece(name=call.name))
                self._held, self._state = self._held[head.end() :], _State.ARGUMENTS
                self._value = _JsonValue()
                return True
            case _State.ARGUMENTS:
                end = self._value.add(self._held)
                text = self._held if end is None else self._held[:end]
                if text:
                    call = self._calls[-1]
                    more = {"arguments": call.arguments + text}
                    self._calls[-1] = call.model_copy(update=more)
                    shown.append(self._call_piece(arguments=text))
                self._held = self._held[len(text) :]
                if end is not None:
                    self._state = _State.END
                return end is not None
            case _State.END:
                _, closing, after = self._held.partition(CLOSING)
                if closing:
                    self._held, self._state = after, _State.TEXT
                return bool(closing)

    def _plain(self, text: str) -> list[Piece]:
        if self._calls and not self._text:  # what parts calls is no text
            text = text.lstrip()
        self._text += text
        return [Piece(text=text)] if text else []

    def _call_piece(self, name: str | None = None, arguments: str = "") -> Piece:
        number = len(self._calls) - 1
        return Piece(text="", call=CallPiece(number=number, name=name, arguments=arguments))


class _JsonValue:
    """Finds the end of a JSON object that arrives in pieces."""

    def __init__(self) -> None:
        self._depth = 0
        self._in_string = self._escaped = False

    def add(self, piece: str) -> int | None:
        """How many characters of the piece the object takes; None if it goes on."""
        for place, character in enumerate(piece):
            if self._escaped:
                self._escaped = False
            elif self._in_string:
                self._escaped = character == "\\"
                self._in_string = character != '"'
            elif character == '"':
                self._in_string = True
            elif character in "{[":
                self._depth += 1
            elif character in "}]":
                self._depth -= 1
                if not self._depth:
                    return place + 1
        return None
