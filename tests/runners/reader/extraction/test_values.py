import pytest

from runners.reader.extraction.values import values_of

STRING = {"type": "string"}
NUMBER = {"type": "number"}
DATE = {"type": "string", "format": "date"}


def first(text: str, schema: dict) -> object:
    return next(values_of(text, schema), None)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("12", 12),
        ("12.50", 12.5),
        ("12,50", 12.5),
        ("1,234", 1234),
        ("1.234", 1.234),
        ("1 234,50 €", 1234.5),
        ("$1,234.50", 1234.5),
        ("1.234,50", 1234.5),
        ("1'000'000", 1000000),
        ("1,234,567", 1234567),
        ("-3.5", -3.5),
        ("−3", -3),
        ("about 7 of them", 7),
        ("none", None),
        ("", None),
    ],
)
def test_numbers(text, number):
    assert first(text, NUMBER) == number


def test_an_integer_has_no_fraction():
    assert first("5", {"type": "integer"}) == 5
    assert first("5.00", {"type": "integer"}) == 5
    assert first("5.5", {"type": "integer"}) is None


@pytest.mark.parametrize(
    ("text", "day"),
    [
        ("12.03.2024", "2024-03-12"),
        ("2024-03-12", "2024-03-12"),
        ("03/25/2024", "2024-03-25"),
        ("1/2/24", "2024-02-01"),
        ("12 March 2024", "2024-03-12"),
        ("March 12, 2024", "2024-03-12"),
        ("12 марта 2024 г.", "2024-03-12"),
        ("5 мая 2024", "2024-05-05"),
        ("31.02.2024", None),
        ("12 Brumaire 2024", None),
        ("soon", None),
    ],
)
def test_dates(text, day):
    assert first(text, DATE) == day


@pytest.mark.parametrize(
    ("text", "value"), [("Yes", True), ("нет", False), ("Да.", True), ("perhaps", None)]
)
def test_booleans(text, value):
    assert first(text, {"type": "boolean"}) is value


def test_choices_are_those_of_the_schema():
    assert first("usd", {"enum": ["EUR", "USD"]}) == "USD"
    assert first("GBP", {"enum": ["EUR", "USD"]}) is None
    assert first("3", {"enum": [1, 3]}) == 3


def test_of_several_types_the_narrowest_comes_first():
    assert list(values_of("12", {"type": ["string", "number", "null"]})) == [12, "12"]


def test_a_text_stays_as_it_is():
    assert first(" Ivan Petrov ", STRING) == "Ivan Petrov"
