import pytest
from hypothesis import given
from hypothesis import strategies as st

from runners.upstream.loop_guard import LoopGuard


def watched(
    text: str, pieces: int = 7, max_tokens: int = 4000, is_cut: bool = False
) -> tuple[str, bool]:
    """What the guard leaves of a text in pieces of so many characters, and whether it is a loop."""
    guard = LoopGuard(max_tokens)
    shown = ""
    for start in range(0, len(text), pieces):
        shown += guard.add(text[start : start + pieces])
        if guard.is_endless:
            return shown, True
    shown += guard.end(is_cut)
    return shown, guard.is_endless


@pytest.mark.parametrize("loop", ["again and ", "line\n", "да, конечно; ", "."])
def test_a_little_of_a_loop_is_left_however_it_comes(loop):
    text = "A page.\n" + loop * 4000
    whole = watched(text, len(text))
    assert whole[1]
    assert text.startswith(whole[0])
    assert len("A page.\n") < len(whole[0]) < 900
    assert all(watched(text, pieces) == whole for pieces in (1, 2, 7, 1000))


@pytest.mark.parametrize(
    "text",
    [
        "\n".join(f"Item {number}, {number * 7} pieces" for number in range(500)),
        "Contents " + "." * 150 + " 7\n" + "_" * 300,
        "| a | | |\n" * 150 + "The end.",
    ],
)
def test_what_pages_repeat_is_no_loop(text):
    assert watched(text) == (text, False)


def test_a_table_without_end_counts_as_a_loop_if_it_is_cut():
    text = "A page.\n" + "| a | | |\n" * 150
    assert watched(text) == (text, False)
    shown, is_endless = watched(text, is_cut=True)
    assert is_endless
    assert len(shown) < 200


@given(st.text(max_size=400), st.integers(1, 50))
def test_a_text_of_more_words_than_are_watched_stays_whole(text, pieces):
    assert watched(text, pieces, max_tokens=1) == (text, False)
