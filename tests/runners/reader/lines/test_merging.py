import pytest

from runners.reader.lines.merging import merge
from runners.reader.lines.words import Character, LineWord


def word(text: str, confidence: float, start: float = 0.0) -> LineWord:
    """A word whose letters are half as wide as the line is high."""
    return LineWord(
        tuple(
            Character(letter, confidence, start + at / 2, start + at / 2 + 0.4)
            for at, letter in enumerate(text)
        )
    )


def merged(cyrillic: list[LineWord], latin: dict[float, LineWord]) -> list[str]:
    """The texts. latin: what is read in Latin letters, by where it starts."""
    return [read.text for read in merge(cyrillic, lambda start, end: latin.get(start))]


def test_a_word_that_was_hard_to_read_is_replaced_by_the_latin_one() -> None:
    russian = [word("языке", 0.95), word("Рутпоп", 0.4, 4), word("для", 0.95, 8)]
    assert merged(russian, {4: word("Python", 0.99, 4)}) == ["языке", "Python", "для"]


def test_a_word_that_latin_letters_cannot_read_stays() -> None:
    assert merged([word("шумно", 0.4)], {}) == ["шумно"]


def test_a_word_of_letters_that_look_alike_stays_cyrillic() -> None:
    assert merged([word("АННА", 0.93)], {0: word("AHHA", 1.0)}) == ["АННА"]


def test_capitals_that_look_alike_are_doubted_however_sure() -> None:
    assert merged([word("СВР", 0.97)], {0: word("GBP", 0.99)}) == ["GBP"]


def test_neighbours_of_a_latin_word_are_doubted() -> None:
    russian = [word("ххх", 0.2), word("Виз", 0.96, 4)]
    latin = {0.0: word("Joy", 0.99), 4.0: word("Rus", 0.99, 4)}
    assert merged(russian, latin) == ["Joy", "Rus"]


def test_a_word_is_divided_where_alphabets_are_joined() -> None:
    readings = {(0.0, 1.4): word("USB-", 0.99)}
    mixed = word("У5В-кабель", 0.4)
    read = merge([mixed], lambda start, end: readings.get((start, round(end, 2))))
    assert [part.text for part in read] == ["USB-кабель"]


@pytest.mark.parametrize(("cyrillic", "sure", "text"), [("3", 0.5, "8"), ("Об", 0.7, "Об")])
def test_digits_replace_no_word_of_letters(cyrillic: str, sure: float, text: str) -> None:
    digits = "8" if cyrillic == "3" else "06"
    assert merged([word(cyrillic, sure)], {0: word(digits, 0.99)}) == [text]


def test_three_zeros_before_a_name_are_the_form_of_a_company() -> None:
    assert merged([word("000", 0.5), word("«Ромашка»", 0.9, 3)], {}) == ["ООО", "«Ромашка»"]
    assert merged([word("000", 0.5), word("рублей", 0.9, 3)], {}) == ["000", "рублей"]
