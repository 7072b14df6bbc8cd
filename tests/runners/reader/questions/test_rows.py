"""Rows of receipts, invoices and forms that answer questions about their fields."""

import pytest

from common.messages import Line
from runners.reader.questions.request import understand
from runners.reader.questions.rows import find_rows, is_on_page
from runners.reader.questions.words import stems_of

RECEIPT = (
    "CORNER SHOP",
    "12 High Street, Leeds",
    "Tel: 0113 496 0000",
    "Receipt No: 55-102",
    "14/03/2024 17:32",
    "Qty\tItem\tPrice",
    "2\tApples\t3.00",
    "1\tBread\t2.20",
    "Sub-total\t5.20",
    "VAT 20%\t0.87",
    "Total\t6.07",
    "Total items\t3",
    "Cash\t10.00",
    "Change\t3.93",
)
INVOICE = (
    "Счёт № 318 от 05.02.2025",
    "Поставщик:\tООО «Ромашка»",
    "Покупатель:\tИП Петров А. А.",
    "ИНН\t7701234567",
    "Наименование\tКол-во\tЦена\tСумма",
    "Бумага А4\t10\t250,00\t2 500,00",
    "Ручка\t20\t15,00\t300,00",
    "Итого без НДС:\t2 800,00",
    "НДС 20%:\t560,00",
    "Итого к оплате:\t3 360,00",
    "Срок оплаты:\t20.02.2025",
    "Телефон: +7 495 123-45-67",
)
FORM = (
    "Health record",
    "Name",
    "Anna Petrova",
    "Date of birth",
    "12.05.1980",
    "Passport",
    "4509 123456",
    "Blood type\tA+",
    "Grand total",
    "$ 12.00",
)


def found(question: str, page: tuple[str, ...]) -> list[str]:
    rows = [Line(text=text, box=(0, 0, 9, 9), confidence=0.9) for text in page]
    stems = stems_of("\n".join(page))
    request = understand(question, lambda word: is_on_page(word, stems))
    places = {n for topic in request.topics for n in find_rows(topic, rows, counted=False)}
    return [page[n] for n in sorted(places)]


@pytest.mark.parametrize(
    ("question", "row"),
    [
        ("What is the total?", "Total\t6.07"),
        ("What was the total amount?", "Total\t6.07"),
        ("What is the amount due?", "Total\t6.07"),
        ("Какая итоговая сумма?", "Total\t6.07"),
        ("What is the subtotal?", "Sub-total\t5.20"),
        ("What is the VAT?", "VAT 20%\t0.87"),
        ("How much tax was paid?", "VAT 20%\t0.87"),
        ("How much change was given?", "Change\t3.93"),
        ("What is the date?", "14/03/2024 17:32"),
        ("What time was it?", "14/03/2024 17:32"),
        ("What is the receipt number?", "Receipt No: 55-102"),
        ("What is the phone number?", "Tel: 0113 496 0000"),
        ("How much is the bread?", "1\tBread\t2.20"),
        ("What is the price of the apples?", "2\tApples\t3.00"),
    ],
)
def test_a_field_of_a_receipt_is_in_the_row_of_its_label(question: str, row: str) -> None:
    assert found(question, RECEIPT) == [row]


@pytest.mark.parametrize(
    ("question", "row"),
    [
        ("Какой номер счёта?", INVOICE[0]),
        ("Какая дата счёта?", INVOICE[0]),
        ("What is the invoice number?", INVOICE[0]),
        ("Кто поставщик?", INVOICE[1]),
        ("Who is the buyer?", INVOICE[2]),
        ("Какой ИНН?", INVOICE[3]),
        ("Сколько стоит бумага?", INVOICE[5]),
        ("Сколько ручек?", INVOICE[6]),
        ("Сколько НДС?", INVOICE[8]),
        ("Итого?", INVOICE[9]),
        ("Какая сумма к оплате?", INVOICE[9]),
        ("What is the total?", INVOICE[9]),
        ("Какой срок оплаты?", INVOICE[10]),
        ("Какой телефон?", INVOICE[11]),
    ],
)
def test_a_field_of_an_invoice_is_found_in_both_languages(question: str, row: str) -> None:
    assert found(question, INVOICE) == [row]


@pytest.mark.parametrize(
    ("question", "rows"),
    [
        ("What is the name?", ["Name", "Anna Petrova"]),
        ("What is the date of birth?", ["Date of birth", "12.05.1980"]),
        ("What is the passport number?", ["Passport", "4509 123456"]),
        ("What is the blood type?", ["Blood type\tA+"]),
        ("What is the total?", ["Grand total", "$ 12.00"]),
    ],
)
def test_the_value_under_a_label_is_found_with_it(question: str, rows: list[str]) -> None:
    assert found(question, FORM) == rows


def test_each_field_of_a_list_is_found() -> None:
    assert found("Extract the total, the date and the receipt number", RECEIPT) == [
        "Receipt No: 55-102",
        "14/03/2024 17:32",
        "Total\t6.07",
    ]


@pytest.mark.parametrize(
    "question",
    [
        "What is the passport number?",
        "What is the IBAN?",
        "What is the due date?",
        "What is the shop's e-mail?",
        "When is the next meeting?",
        "Кто подписал?",
        "Номер договора",
    ],
)
def test_a_field_that_the_page_does_not_have_is_not_found(question: str) -> None:
    assert found(question, RECEIPT) == []
