import pytest

from common.messages import Line
from runners.reader.extraction.labels import find_labelled


def page(*rows: str) -> list[Line]:
    return [Line(text=row, box=(0, n, 9, n + 1), confidence=1) for n, row in enumerate(rows)]


@pytest.mark.parametrize(
    ("name", "rows", "value"),
    [
        ("total", ["Total: 12.50"], "12.50"),
        ("total", ["Total\t12.50"], "12.50"),
        ("total", ["Total 12.50"], "12.50"),
        ("total", ["Total $12.50"], "$12.50"),
        ("total", ["Итого:\t12,50"], "12,50"),
        ("invoiceNumber", ["Invoice number: A-7"], "A-7"),
        ("invoice_number", ["Invoice No. 2024/17"], "2024/17"),
        ("Invoice number", ["INVOICE № 5"], "5"),
        ("customer name", ["Customer name", "Ivan Petrov"], "Ivan Petrov"),
        ("начало", ["Начало: 10:30"], "10:30"),
        ("shipment", ["Shlpment: by sea"], "by sea"),
        ("due date", ["Date: 1.2.2024", "Due date: 3.4.2024"], "3.4.2024"),
        ("date", ["Due date: 3.4.2024", "Date: 1.2.2024"], "1.2.2024"),
        ("amount", ["Item\tAmount", "Amount: 5"], "5"),
    ],
)
def test_the_value_of_a_label(name, rows, value):
    assert value in [found.value for found in find_labelled(name, page(*rows))[:2]]


def test_the_purest_label_comes_first():
    found = find_labelled("total", page("Total without tax: 1", "Total: 2", "Total: 3"))
    assert [one.value for one in found][:2] == ["2", "3"]


@pytest.mark.parametrize(
    ("name", "rows"),
    [
        ("total", ["Subtotal: 5"]),
        ("total", ["In all there were 5"]),
        ("discount", ["Total: 5"]),
        ("invoice number", ["Invoice: attached"]),
        ("total", ["Total"]),
        ("", ["Total: 5"]),
        ("the", ["The: 5"]),
    ],
)
def test_what_is_no_label_of_the_field(name, rows):
    assert find_labelled(name, page(*rows)) == []


def test_a_page_without_lines_has_no_label():
    assert find_labelled("total", []) == []
