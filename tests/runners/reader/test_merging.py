import pytest

from runners.reader.merging import Word, is_doubtful, mean_confidence, merge


def words(*read: tuple[str, float, int]) -> list[Word]:
    return [Word(*word) for word in read]


def texts(merged: list[Word]) -> list[str]:
    return [word.text for word in merged]


def test_the_confidence_is_the_mean_over_the_characters() -> None:
    assert mean_confidence(words(("one", 1.0, 0), ("o", 0.6, 40))) == pytest.approx(0.9)
    assert mean_confidence([]) == 0


@pytest.mark.parametrize(
    ("text", "confidence", "doubtful"),
    [
        ("Москва", 0.9, False),
        ("Москва", 0.8, True),
        ("СВР", 0.99, True),  # GBP, read in Russian
        ("—", 0.3, False),
        ("149", 0.5, True),
    ],
)
def test_a_word_is_doubtful_if_it_was_hard_to_read_or_looks_alike(
    text: str, confidence: float, doubtful: bool
) -> None:
    assert is_doubtful(Word(text, confidence, 0)) is doubtful


def test_a_doubtful_word_is_replaced_by_the_surer_one_at_its_place() -> None:
    russian = words(("языке", 0.95, 0), ("Рутпоп", 0.4, 100), ("для", 0.95, 200))
    english = words(("a3bike", 0.3, 2), ("Python", 0.96, 103), ("ana", 0.4, 199))
    assert texts(merge(russian, english)) == ["языке", "Python", "для"]


def test_all_words_of_a_surer_reading_are_taken() -> None:
    russian = words(("Тпе", 0.5, 0), ("епа", 0.6, 100))
    english = words(("The", 0.97, 0), ("end", 0.97, 100))
    assert texts(merge(russian, english)) == ["The", "end"]


def test_a_replacement_may_not_consist_of_letters_that_look_alike() -> None:
    russian = words(("текст", 0.95, 0), ("с", 0.5, 100), ("краю", 0.95, 200))
    english = words(("texct", 0.2, 0), ("c", 0.99, 100), ("kparo", 0.2, 200))
    assert texts(merge(russian, english)) == ["текст", "с", "краю"]


def test_words_that_are_split_otherwise_are_replaced_together() -> None:
    russian = words(("для", 0.95, 0), ("Уип", 0.4, 100), ("домз", 0.4, 140), ("и", 0.95, 300))
    english = words(("ana", 0.2, 0), ("Windows", 0.98, 100), ("u", 0.3, 300))
    assert texts(merge(russian, english)) == ["для", "Windows", "и"]
