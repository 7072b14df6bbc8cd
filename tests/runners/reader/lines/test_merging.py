import pytest

from runners.reader.lines.merging import is_settled, merge, with_cyrillic
from runners.reader.lines.words import Character, LineWord


def word(text: str, confidence: float, start: float = 0.0, *, known: bool = False) -> LineWord:
    """A word whose letters are half as wide as the line is high. known: to the dictionary."""
    return LineWord(
        tuple(
            Character(letter, confidence, start + at / 2, start + at / 2 + 0.4, known)
            for at, letter in enumerate(text)
        )
    )


def merged(cyrillic: list[LineWord], latin: dict[float, LineWord]) -> list[str]:
    """The texts. latin: what is read in Latin letters, by where it starts."""

    def read_latin(start: float, end: float) -> list[LineWord]:
        return [read for at, read in latin.items() if start <= at < end]

    return [read.text for read in merge(cyrillic, read_latin)]


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

    def read_latin(start: float, end: float) -> list[LineWord]:
        found = readings.get((start, round(end, 2)))
        return [found] if found else []

    read = merge([mixed], read_latin)
    assert [part.text for part in read] == ["USB-кабель"]


@pytest.mark.parametrize(("cyrillic", "sure", "text"), [("3", 0.5, "8"), ("Об", 0.7, "Об")])
def test_digits_replace_no_word_of_letters(cyrillic: str, sure: float, text: str) -> None:
    digits = "8" if cyrillic == "3" else "06"
    assert merged([word(cyrillic, sure)], {0: word(digits, 0.99)}) == [text]


def test_three_zeros_before_a_name_are_the_form_of_a_company() -> None:
    assert merged([word("000", 0.5), word("«Ромашка»", 0.9, 3)], {}) == ["ООО", "«Ромашка»"]
    assert merged([word("000", 0.5), word("рублей", 0.9, 3)], {}) == ["000", "рублей"]


def test_a_russian_word_that_reads_as_other_latin_letters_is_latin() -> None:
    russian = [word("Мате:", 0.96, known=True), word("Иван", 0.96, 4, known=True)]
    assert merged(russian, {0: word("Name:", 1.0)}) == ["Name:", "Иван"]


@pytest.mark.parametrize(
    ("cyrillic", "latin"),
    [("шт.", "WT."), ("нет", "HT"), ("руб.", "pyá."), ("заказ", "3aa3"), ("ОТ", "OT")],
)
def test_a_russian_word_that_looks_like_latin_letters_stays(cyrillic: str, latin: str) -> None:
    assert merged([word(cyrillic, 0.93, known=True)], {0: word(latin, 0.99)}) == [cyrillic]


def test_an_unknown_word_that_looks_like_a_latin_one_is_latin() -> None:
    assert merged([word("Соге", 0.92)], {0: word("Core", 1.0)}) == ["Core"]
    assert merged([word("РОМАШКА", 0.92)], {0: word("POMALKA", 1.0)}) == ["РОМАШКА"]
    assert merged([word("Ехсе!", 0.92)], {0: word("Excel", 1.0)}) == ["Excel"]
    assert merged([word("МАЖОР", 0.92)], {0: word("MAKOP", 1.0)}) == ["МАЖОР"]
    assert merged([word("РеМонт", 0.92)], {0: word("PeMOHT", 1.0)}) == ["РеМонт"]


def test_identical_letters_are_latin_beside_a_latin_word_only() -> None:
    assert merged([word("НТТР", 0.93)], {0: word("HTTP", 1.0)}) == ["НТТР"]
    russian = [word("Мтих", 0.3), word("НТТР", 0.93, 4)]
    assert merged(russian, {0: word("Linux", 1.0), 4: word("HTTP", 1.0, 4)}) == ["Linux", "HTTP"]


def test_the_sign_of_a_number_is_latin_in_latin_text_only() -> None:
    russian = [word("Огаег", 0.3), word("№.", 0.9, 4, known=True)]
    latin = {0.0: word("Order", 1.0), 4.0: word("No.", 1.0, 4)}
    assert merged(russian, latin) == ["Order", "No."]
    assert merged(russian[1:], latin) == ["№."]


def test_latin_words_beside_each_other_are_read_at_once() -> None:
    russian = [word("БИ", 0.1), word("рз://", 0.1, 1)]
    pieces = {(0.0, 0.9): word("ht", 1.0), (1.0, 3.4): word("tps://", 1.0, 1)}

    def read_latin(start: float, end: float) -> list[LineWord]:
        found = pieces.get((start, round(end, 2)), word("https://", 1.0))
        return [found]

    assert [read.text for read in merge(russian, read_latin)] == ["https://"]


@pytest.mark.parametrize("latin", ["pyá.", "py6."])
def test_doubtful_words_of_a_latin_line_are_russian_ones(latin: str) -> None:
    words = [word("Total:", 1.0), word(latin, 0.99, 4)]
    cyrillic = [word("Тоба!:", 0.2), word("руб.", 0.97, 4, known=True)]
    assert [w.text for w in with_cyrillic(words, lambda: cyrillic)] == ["Total:", "руб."]
    unsure = [word("руб.", 0.5, 4)]
    assert [w.text for w in with_cyrillic(words, lambda: unsure)] == ["Total:", latin]


@pytest.mark.parametrize(
    ("text", "known", "confidence", "is_read"),
    [
        ("Законы", True, 0.92, False),
        ("Законы", True, 0.89, True),
        ("Для", True, 0.92, True),
        ("рекурсивный", False, 0.92, False),
        ("отмемо", False, 0.92, True),
        ("мемои{ация", False, 0.92, True),
        ("НЕОТКРЫВАЕМЫЙ", False, 0.92, True),
        ("телекоммуникационно-технический", False, 0.92, False),
        ("плат-интерфейсный", False, 0.92, True),
    ],
)
def test_a_long_word_that_is_sure_is_not_read_again(
    text: str, known: bool, confidence: float, is_read: bool
) -> None:
    starts: list[float] = []

    def read_latin(start: float, _: float) -> list[LineWord]:
        starts.append(start)
        return []

    assert merge([word(text, confidence, known=known)], read_latin)[0].text == text
    assert bool(starts) is is_read


def test_a_dash_and_a_number_settle_nothing() -> None:
    assert not is_settled(word("—", 0.95, known=True))
    assert not is_settled(word("7708123436", 0.97))
