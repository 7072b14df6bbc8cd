import pytest
from hypothesis import given
from hypothesis import strategies as st

from runners.upstream.loop_guard import LoopGuard


def sensible(text: str, pieces: int = 7, max_tokens: int = 4000) -> str | None:
    """What the guard keeps of a text that comes in pieces of so many characters."""
    guard = LoopGuard(max_tokens)
    for start in range(0, len(text), pieces):
        if (kept := guard.add(text[start : start + pieces])) is not None:
            return kept
    return None


@pytest.mark.parametrize("pieces", [1, 2, 7, 1000, 100_000])
@pytest.mark.parametrize(
    ("loop", "kept"),
    [
        ("again and ", "A page.\nagain and "),
        ("line\n", "A page.\nline\n"),
        ("да, конечно; ", "A page.\nда, конечно; "),
    ],
)
def test_of_a_loop_one_period_is_kept_however_it_comes(loop, kept, pieces):
    assert (sensible("A page.\n" + loop * 600, pieces) or "").strip() == kept.strip()


def test_one_character_without_end_is_a_loop():
    kept = sensible("." * 5000)
    assert kept is not None
    assert len(kept) < 64


@pytest.mark.parametrize(
    "text",
    [
        "\n".join(f"Item {number}, {number * 7} pieces" for number in range(500)),
        "Contents " + "." * 150 + " 7\n" + "_" * 300,
        "| | | |\n" * 30,
    ],
)
def test_what_pages_repeat_is_no_loop(text):
    assert sensible(text) is None


def test_a_loop_at_the_end_of_a_text_that_is_cut_counts():
    guard = LoopGuard(4000)
    assert guard.add("A page. " + "again " * 64) is None
    assert guard.end() is None
    guard = LoopGuard(4000)
    text = "A page. " + "again " * 128
    assert (guard.add(text) or guard.end() or "").strip() == "A page. again"


@given(st.text(max_size=400), st.integers(1, 50))
def test_a_text_of_more_words_than_are_watched_does_no_harm(text, pieces):
    assert sensible(text, pieces, max_tokens=1) is None
