import numpy as np

from runners.reader.lines.spaces import with_passed_over
from runners.reader.lines.words import Character

HEIGHT = 48


def read(
    text: str, gaps: dict[int, int], usual: int = 4, *, before_numbers_only: bool = False
) -> str:
    """What is made of a text whose letters are 20 pixels wide, the gaps before some wider.

    gaps: the pixels before a letter, by its number among the letters; before others it is `usual`.
    """
    ink = np.zeros(2000, np.bool_)
    characters: list[Character] = []
    end = number = 0
    for letter in text:
        if letter == " ":
            characters.append(Character(" ", 1.0, end / HEIGHT, end / HEIGHT))
            continue
        start = end + gaps.get(number, usual)
        end = start + 20
        ink[start:end] = True
        characters.append(Character(letter, 1.0, start / HEIGHT, end / HEIGHT))
        number += 1
    return "".join(
        c.text
        for c in with_passed_over(characters, ink, HEIGHT, before_numbers_only=before_numbers_only)
    )


def test_a_gap_as_wide_as_the_other_spaces_is_a_space() -> None:
    assert read("we weremoved to", {2: 14, 6: 14, 11: 14}) == "we were moved to"
    assert read("we weremoved to", {2: 20, 6: 10, 11: 20}) == "we weremoved to"


def test_a_wide_gap_is_a_space_where_none_was_read() -> None:
    assert read("limseng", {3: 16}) == "lim seng"
    assert read("limseng", {3: 8}) == "limseng"


def test_letters_that_all_stand_apart_are_one_word() -> None:
    assert read("heading", {}, usual=18) == "heading"


def test_what_has_its_spaces_stays_as_it_is() -> None:
    assert read("to be", {2: 16}) == "to be"
    assert read("a", {}) == "a"
    assert read("", {}) == ""


def test_no_space_is_put_before_what_ends_a_word() -> None:
    assert read("by us.", {1: 14, 4: 16}) == "by us."


def test_less_is_a_space_before_a_number() -> None:
    assert read("ИНН7708", {3: 9}) == "ИНН 7708"
    assert read("ИНН7708", {3: 6}) == "ИНН7708"
    assert read("7708ИНН", {4: 9}) == "7708ИНН"
    assert read("А4 и по7", {2: 16, 3: 16, 5: 9}) == "А4 и по7"


def test_spaces_within_numbers_and_words_are_left_to_those_who_read_them() -> None:
    assert read("ИНН7708 по", {3: 9, 4: 16, 7: 16}, before_numbers_only=True) == "ИНН7708 по"
    assert read("ИНН7708", {3: 9, 5: 16}, before_numbers_only=True) == "ИНН 7708"
