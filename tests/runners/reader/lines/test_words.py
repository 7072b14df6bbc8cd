import numpy as np
import pytest

from runners.reader.lines.words import Character, LineWord, is_whole, mean_confidence, to_words


def characters(*read: tuple[str, float]) -> list[Character]:
    """Characters of full confidence, by text and middle."""
    return [Character(text, 1.0, middle - 0.2, middle + 0.2) for text, middle in read]


def line(*inked: tuple[int, int]) -> np.ndarray:
    """A line of 300 x 48 pixels with ink between these columns."""
    pixels = np.full((48, 300, 3), 255, np.uint8)
    for start, end in inked:
        pixels[12:36, start:end:4] = 0
    return pixels


def test_spaces_part_words() -> None:
    words = to_words(characters(("a", 0.5), ("b", 1.0), (" ", 1.5), ("c", 2.0)))
    assert [(word.text, word.start, word.end) for word in words] == [
        ("ab", pytest.approx(0.3), pytest.approx(1.2)),
        ("c", pytest.approx(1.8), pytest.approx(2.2)),
    ]
    assert to_words([]) == []


def test_the_confidence_is_the_mean_over_the_characters() -> None:
    long = LineWord((Character("a", 1.0, 0, 0),) * 3)
    short = LineWord((Character("b", 0.6, 0, 0),))
    assert mean_confidence([long, short]) == pytest.approx(0.9)
    assert mean_confidence([]) == 0


def test_ink_that_no_character_was_read_from_is_seen() -> None:
    read = characters(("a", 0.5), ("b", 1.0))
    assert is_whole(read, line((10, 60)))
    assert not is_whole(read, line((10, 60), (100, 200)))
    assert not is_whole([], line((10, 60)))
    assert is_whole([], line())
