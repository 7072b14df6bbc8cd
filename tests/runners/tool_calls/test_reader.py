import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.messages import Piece, ToolCall
from runners.tool_calls.reader import CallReader

TEXTS = st.text("ab <\n>tol_c", max_size=12)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text('a{}[]"\\\n<>/é', max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=5,
)
CALLS = st.builds(
    lambda name, arguments: ToolCall(name=name, arguments=json.dumps(arguments)),
    st.text('ab"\\é', min_size=1, max_size=4),
    st.dictionaries(st.text(max_size=3), VALUES, max_size=3),
)


def written(call: ToolCall) -> str:
    name = json.dumps(call.name, ensure_ascii=False)
    return f'<tool_call>\n{{"name": {name}, "arguments": {call.arguments}}}\n</tool_call>'


def read(pieces: list[str]) -> tuple[CallReader, list[Piece]]:
    reader = CallReader()
    shown = [one for piece in pieces for one in reader.add(piece)]
    return reader, [*shown, *reader.end()]


def joined(shown: list[Piece]) -> tuple[str, tuple[ToolCall, ...]]:
    """What a client makes of the pieces."""
    names: dict[int, str] = {}
    arguments: dict[int, str] = {}
    for piece in shown:
        if piece.call is not None:
            if piece.call.name is not None:
                assert piece.call.number == len(names)
                names[piece.call.number] = piece.call.name
            before = arguments.get(piece.call.number, "")
            arguments[piece.call.number] = before + piece.call.arguments
    calls = tuple(ToolCall(name=names[n], arguments=arguments[n]) for n in names)
    return "".join(piece.text for piece in shown), calls


@given(TEXTS, st.lists(CALLS, max_size=3), st.lists(st.integers(0, 400), max_size=6))
def test_calls_are_read_however_the_text_is_cut(text, calls, cuts):
    whole = "\n".join([text, *map(written, calls)]) if calls else text
    places = sorted({0, len(whole), *(cut for cut in cuts if cut < len(whole))})
    pieces = [whole[a:b] for a, b in pairwise(places)]
    for parts in (pieces, list(whole)):
        reader, shown = read(parts)
        assert joined(shown) == (reader.text, reader.calls)
        assert reader.calls == tuple(calls)
        assert reader.text == (text.rstrip() if calls else text)


def test_arguments_are_shown_while_they_are_made():
    reader = CallReader()
    reader.add('<tool_call>\n{"name": "f", "arguments": {"a": ')
    assert reader.add('"12')[0].call.arguments == '"12'


def test_text_behind_a_call_is_text():
    call = ToolCall(name="f", arguments="{}")
    reader, shown = read([f"Before.\n{written(call)}\nAfter."])
    assert reader.text == "Before.\nAfter."
    assert joined(shown) == ("Before.\nAfter.", (call,))


@pytest.mark.parametrize("cut", ["<tool_", "<tool_call>", "After."])
def test_text_behind_the_first_call_begins_without_white_space(cut):
    """As the whole answer does."""
    call = ToolCall(name="f", arguments="{}")
    reader, shown = read(list(f"{written(call)}\n{cut}"))
    assert joined(shown) == (reader.text, reader.calls) == (cut, (call,))


def test_a_call_that_was_cut_off_has_what_there_is_of_its_arguments():
    reader, shown = read(['<tool_call>\n{"name": "f", "arguments": {"a": "b'])
    assert reader.calls == (ToolCall(name="f", arguments='{"a": "b'),)
    assert joined(shown) == ("", reader.calls)


@pytest.mark.parametrize("text", ["<tool_call>", '<tool_call>\n{"name": "f', "<tool_call>words"])
def test_an_opening_without_a_call_is_text(text):
    reader, shown = read(list(text))
    assert joined(shown) == (text, ())
    assert reader.text == text
