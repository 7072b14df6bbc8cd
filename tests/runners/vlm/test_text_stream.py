import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runners.vlm.text_stream import Detokeniser, StopTexts, strip_cut_character


def utf8(tokens: list[int]) -> str:
    return bytes(tokens).decode(errors="replace")


@settings(derandomize=True, deadline=None)
@given(st.text(max_size=40))
def test_pieces_are_whole_characters_and_make_up_the_text(text):
    text = strip_cut_character(text)
    detokeniser = Detokeniser(utf8)
    pieces = [detokeniser.add(byte) for byte in text.encode()]
    assert "".join(pieces) == text
    assert all(len(piece) <= 1 for piece in pieces)


@settings(derandomize=True, deadline=None)
@given(st.binary(max_size=60))
def test_pieces_make_up_the_text_of_any_bytes(data):
    detokeniser = Detokeniser(utf8)
    assert "".join(map(detokeniser.add, data)) == strip_cut_character(utf8(list(data)))


def test_a_character_that_the_end_cuts_is_left_out():
    detokeniser = Detokeniser(utf8)
    assert "".join(map(detokeniser.add, "Жук".encode()[:-1])) == "Жу"
    assert strip_cut_character(utf8(list("Жук".encode()[:-1]))) == "Жу"


def test_only_the_unfinished_character_is_decoded_again():
    lengths: list[int] = []

    def text(tokens):
        lengths.append(len(tokens))
        return utf8(tokens)

    detokeniser = Detokeniser(text)
    for byte in ("Съешь ещё этих мягких французских булок 😀" * 20).encode():
        detokeniser.add(byte)
    assert max(lengths) == 4


def stopped(pieces: list[str], stops: list[str]) -> str:
    """What is shown of the pieces."""
    stop = StopTexts(stops)
    shown = ""
    for piece in pieces:
        shown += stop.add(piece)
        if stop.met:
            return shown
    return shown + stop.rest()


@settings(derandomize=True, deadline=None)
@given(
    st.lists(st.text("ab", max_size=4), max_size=12),
    st.lists(st.text("ab", min_size=1, max_size=4), max_size=3),
)
def test_a_text_ends_before_the_first_stop_text_that_is_whole(pieces, stops):
    whole_text = "".join(pieces)
    ends = [whole_text.find(stop) for stop in stops if stop in whole_text]
    shown = stopped(list(whole_text), stops)
    if not ends:
        assert shown == stopped(pieces, stops) == whole_text
    else:
        assert whole_text.startswith(shown)
        assert any(whole_text[len(shown) :].startswith(stop) for stop in stops)
        assert not any(stop in shown for stop in stops)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 99])
def test_a_stop_text_is_found_however_the_text_is_cut(size):
    text = "one two<stop>three"
    pieces = [text[at : at + size] for at in range(0, len(text), size)]
    assert stopped(pieces, ["<stop>", "four"]) == "one two"


def test_what_may_begin_a_stop_text_is_shown_once_it_does_not():
    stop = StopTexts(["<stop>"])
    assert [stop.add(piece) for piece in ("a<", "st", "<s", "tay")] == ["a", "", "<st", "<stay"]
    assert (stop.rest(), stop.met) == ("", False)


def test_without_stop_texts_nothing_is_held_back():
    stop = StopTexts([])
    assert (stop.add("any"), stop.rest(), stop.met) == ("any", "", False)
