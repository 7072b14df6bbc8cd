"""Pages of the kinds that people bring, each held to its text."""

from collections.abc import Iterator

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter
from rapidfuzz.distance import Levenshtein

from runners.reader.read_page import ReadPage
from runners.reader.reading import Reader
from runners.reader.tessdata import find_tessdata
from settings import Settings
from tests.support.pages import ENGLISH, RUSSIAN, draw_table, render

INVOICE_RU = (
    ("№", "Товар", "Кол.", "Цена", "Сумма"),
    ("1", "Бумага белая", "2", "310,00", "620,00"),
    ("2", "Ручка синяя", "5", "25,00", "125,00"),
    ("3", "Папка", "0", "140,00", "0,00"),
    ("4", "Степлер", "3", "260,00", "780,00"),
)
GRADES_EN = (
    ("Name", "Math", "Art", "Total"),
    ("Alice Brown", "5", "4", "9"),
    ("Robert Green", "3", "0", "3"),
    ("Mary White", "1", "7", "8"),
)
RECEIPT_EN = (
    ("HARBOUR MARKET", ""),
    ("Bread", "1.20"),
    ("Milk 1L", "0.99"),
    ("Cheddar cheese", "4.75"),
    ("TOTAL", "6.94"),
    ("CASH", "10.00"),
    ("CHANGE", "3.06"),
)
RECEIPT_RU = (
    ("МАГАЗИН РОМАШКА", ""),
    ("Хлеб", "45,00"),
    ("Молоко", "89,90"),
    ("Сыр", "312,50"),
    ("ИТОГО", "447,40"),
)


@pytest.fixture(scope="module")
def reader() -> Iterator[Reader]:
    reader = Reader(find_tessdata(Settings().tessdata))
    yield reader
    reader.close()


def error_rate(page: ReadPage, truth: str) -> float:
    wanted, read = " ".join(truth.split()), " ".join(page.text.split())
    return Levenshtein.distance(wanted, read) / len(wanted)


def text_of(rows: tuple[tuple[str, ...], ...]) -> str:
    return "\n".join("\t".join(filter(None, row)) for row in rows)


@pytest.mark.parametrize("rules", [False, True])
@pytest.mark.parametrize(
    ("rows", "lefts"), [(INVOICE_RU, (40, 120, 420, 560, 740)), (GRADES_EN, (40, 400, 560, 700))]
)
def test_rows_of_a_table_come_out_as_rows(
    reader: Reader, rows: tuple[tuple[str, ...], ...], lefts: tuple[int, ...], rules: bool
) -> None:
    page = reader.read(draw_table(rows, lefts, rules=rules), None)
    assert error_rate(page, text_of(rows)) <= 0.01
    assert [line.text.count("\t") for line in page.lines] == [len(rows[0]) - 1] * len(rows)


@pytest.mark.parametrize(
    ("rows", "lefts"), [(INVOICE_RU, (40, 90, 320, 420, 540)), (GRADES_EN, (40, 260, 360, 450))]
)
def test_the_rules_of_a_grid_are_no_letters(
    reader: Reader, rows: tuple[tuple[str, ...], ...], lefts: tuple[int, ...]
) -> None:
    page = draw_table(rows, lefts, rules=True)
    for left in (*(left - 8 for left in lefts), page.width - 20):
        ImageDraw.Draw(page).line((left, 32, left, page.height - 40), fill="black", width=2)
    assert error_rate(reader.read(page, None), text_of(rows)) <= 0.015


def test_latin_labels_and_names_stand_beside_russian_words(reader: Reader) -> None:
    truth = (
        "Name: Иван Петров",
        "Intel Core, память 16 GB",
        "Total: 1 250,00 руб.",
        "ИНН 7708123436",
    )
    page = reader.read(render(truth, 28), None)
    assert [" ".join(line.text.split()) for line in page.lines] == list(truth)


@pytest.mark.parametrize("rows", [RECEIPT_EN, RECEIPT_RU])
def test_prices_of_a_receipt_stay_with_their_names(
    reader: Reader, rows: tuple[tuple[str, ...], ...]
) -> None:
    page = reader.read(draw_table(rows, (20, 300), 20, pitch=1.5), None)
    assert error_rate(page, text_of(rows)) <= 0.02


@pytest.mark.parametrize("truth", [ENGLISH, RUSSIAN])
def test_numbers_of_a_list_stay_with_their_lines(reader: Reader, truth: tuple[str, ...]) -> None:
    rows = tuple((f"{number}.", line) for number, line in enumerate(truth, 1))
    assert error_rate(reader.read(draw_table(rows, (40, 90)), None), text_of(rows)) <= 0.01


def test_words_of_letters_in_both_alphabets_are_latin_on_a_latin_page(reader: Reader) -> None:
    rows = (("OPT", "2X"), ("ACT", "1X"), ("Company No 20965-W", "PM"), ("PAX", "TEA"), ("K", "x"))
    page = reader.read(draw_table(rows, (40, 500)), None)
    assert page.text.isascii()
    assert page.language == "en"
    assert error_rate(page, text_of(rows)) <= 0.05


def test_a_russian_word_on_a_latin_page_stays_russian(reader: Reader) -> None:
    truth = (*ENGLISH, "Москва")
    assert error_rate(reader.read(render(truth, 28), None), " ".join(truth)) <= 0.01


@pytest.mark.parametrize("truth", [ENGLISH, RUSSIAN])
@pytest.mark.parametrize("font", ["DejaVuSansMono", "DejaVuSerif", "DejaVuSans-Bold"])
def test_spaces_are_kept_in_every_font(reader: Reader, truth: tuple[str, ...], font: str) -> None:
    page = reader.read(render(truth, 26, font=font), None)
    assert [line.text.count(" ") for line in page.lines] == [line.count(" ") for line in truth]


@pytest.mark.parametrize(
    "rows",
    [
        (("Name:", "Ivan Petrov"), ("No.:", "7"), ("Status:", "Paid 14 May")),
        (("Имя:", "Иван Петров"), ("№:", "7"), ("Статус:", "Получено 14 мая")),
    ],
)
def test_reads_forms_with_fields_and_boxes(
    reader: Reader, rows: tuple[tuple[str, ...], ...]
) -> None:
    page = draw_table(rows, (40, 260), rules=True)
    ImageDraw.Draw(page).rectangle((10, 10, page.width - 10, page.height - 10), outline="black")
    assert error_rate(reader.read(page, None), text_of(rows)) <= 0.02


@pytest.mark.parametrize("truth", [ENGLISH, RUSSIAN])
def test_reads_a_dark_screenshot_with_small_letters(reader: Reader, truth: tuple[str, ...]) -> None:
    page = render(truth, 15, ink="#d4d4d4", paper="#1e1e1e")
    assert error_rate(reader.read(page, None), " ".join(truth)) <= 0.01


@pytest.mark.parametrize("truth", [ENGLISH, RUSSIAN])
def test_reads_a_photograph_with_shade_and_grain(reader: Reader, truth: tuple[str, ...]) -> None:
    page = np.asarray(render(truth, 30, rotation=4, noise=12), np.float32)
    light = np.linspace(1.0, 0.45, page.shape[1])[None, :, None] * np.array((1.0, 0.93, 0.8))
    photograph = Image.fromarray((page * light).clip(0, 255).astype(np.uint8))
    assert error_rate(reader.read(photograph, None), " ".join(truth)) <= 0.01


def test_columns_are_read_one_after_the_other(reader: Reader) -> None:
    left, right = render(ENGLISH, 20), render(RUSSIAN, 20)
    page = Image.new("RGB", (left.width + right.width, left.height), "white")
    page.paste(left, (0, 0))
    page.paste(right, (left.width, 0))
    assert error_rate(reader.read(page, None), " ".join(ENGLISH + RUSSIAN)) <= 0.01


@pytest.mark.parametrize(
    ("ink", "paper"),
    [
        ("black", "green"),
        ("black", "orange"),
        ("black", "cyan"),
        ("black", "pink"),
        ("red", "#4c9a4c"),
        ("lightgrey", "white"),
        ("white", "darkred"),
        ("#3050c0", "white"),
    ],
)
@pytest.mark.parametrize("truth", [ENGLISH[:3], RUSSIAN[:3]])
def test_reads_any_ink_on_any_paper(
    reader: Reader, truth: tuple[str, ...], ink: str, paper: str
) -> None:
    page = reader.read(render(truth, 28, ink=ink, paper=paper), None)
    assert error_rate(page, " ".join(truth)) <= 0.01


@pytest.mark.parametrize("truth", [ENGLISH, RUSSIAN])
def test_reads_under_a_seal(reader: Reader, truth: tuple[str, ...]) -> None:
    page = render(truth, 28)
    seal = Image.new("RGB", page.size, "white")
    draw = ImageDraw.Draw(seal)
    for radius in (90, 80, 60):
        box = (300 - radius, 130 - radius, 300 + radius, 130 + radius)
        draw.ellipse(box, outline=(50, 70, 210), width=5)
    pixels = np.minimum(np.asarray(page), np.asarray(seal))
    assert error_rate(reader.read(Image.fromarray(pixels), None), " ".join(truth)) <= 0.02


def test_reads_highlighted_and_struck_out_lines(reader: Reader) -> None:
    page = render(ENGLISH, 28)
    over = Image.new("RGB", page.size, "white")
    ImageDraw.Draw(over).rectangle((30, 82, 700, 120), fill="yellow")
    marked = Image.fromarray(np.minimum(np.asarray(page), np.asarray(over)))
    ImageDraw.Draw(marked).line((40, 184, 700, 184), fill="red", width=2)
    assert error_rate(reader.read(marked, None), " ".join(ENGLISH)) <= 0.01


@pytest.mark.parametrize("rotation", [11, -24, 38])
@pytest.mark.parametrize("truth", [ENGLISH, RUSSIAN])
def test_reads_at_any_angle(reader: Reader, truth: tuple[str, ...], rotation: float) -> None:
    page = reader.read(render(truth, 28, rotation=rotation), None)
    assert error_rate(page, " ".join(truth)) <= 0.01
    assert page.rotation.degrees == 0
    assert page.rotation.skew == pytest.approx(-rotation, abs=1)


@pytest.mark.parametrize(("rotation", "degrees"), [(90, 90), (180, 180), (270, 270)])
def test_says_how_the_page_was_turned(reader: Reader, rotation: float, degrees: int) -> None:
    page = render(ENGLISH)
    turned = reader.read(page.rotate(rotation, expand=True), None)
    assert (turned.rotation.degrees, turned.size) == (degrees, page.size)
    upright, again = reader.read(page, None).lines, turned.lines
    assert [line.text for line in again] == [line.text for line in upright]
    for line, other in zip(again, upright, strict=True):
        assert line.box == pytest.approx(other.box, abs=10)


def test_reads_in_perspective(reader: Reader) -> None:
    page = render(RUSSIAN, 32)
    width, height = page.size
    corners = (0, 0, -60, height, width + 60, height, width, 0)
    photograph = page.transform(
        page.size,
        Image.Transform.QUAD,
        corners,
        Image.Resampling.BICUBIC,
        fillcolor="white",
    )
    assert error_rate(reader.read(photograph, None), " ".join(RUSSIAN)) <= 0.01


def test_a_table_that_lies_on_its_side_is_read_after_the_upright_text(reader: Reader) -> None:
    page = Image.new("RGB", (900, 1300), "white")
    page.paste(render(RUSSIAN, 24), (20, 20))
    page.paste(render(ENGLISH, 28).rotate(90, expand=True), (300, 350))
    assert error_rate(reader.read(page, None), " ".join(RUSSIAN + ENGLISH)) <= 0.01


def test_a_machine_readable_zone_is_not_turned(reader: Reader) -> None:
    zone = (
        "P<UTOERIKSSON<<ANNA<MARIA<<<<<<<<<<<<<<<<<<<",
        "L898902C36UTO7408122F1204159ZE184226B<<<<<10",
    )
    page = reader.read(render(zone, 28, font="DejaVuSansMono"), None)
    assert page.rotation.degrees == 0
    assert error_rate(page, " ".join(zone)) <= 0.05


@pytest.mark.parametrize("truth", [ENGLISH, RUSSIAN])
def test_reads_a_blurred_page(reader: Reader, truth: tuple[str, ...]) -> None:
    blurred = render(truth, 32).filter(ImageFilter.GaussianBlur(2.5))
    assert error_rate(reader.read(blurred, None), " ".join(truth)) <= 0.02


@pytest.mark.parametrize("truth", [ENGLISH[2:4], ENGLISH, RUSSIAN[2:4]])
def test_reads_dots(reader: Reader, truth: tuple[str, ...]) -> None:
    letters = np.asarray(render(truth, 12, margin=12).convert("L"))
    dots = np.full((letters.shape[0] * 3, letters.shape[1] * 3), 255, np.uint8)
    dots[1::3, 1::3] = dots[::3, 1::3] = dots[1::3, ::3] = letters
    page = reader.read(Image.fromarray(dots).convert("RGB"), None)
    assert error_rate(page, " ".join(truth)) <= 0.03


def test_a_single_line_without_a_margin_is_read(reader: Reader) -> None:
    page = render(ENGLISH[1:2], 30, margin=2)
    assert error_rate(reader.read(page, None), ENGLISH[1]) <= 0.01


@pytest.mark.parametrize("truth", [ENGLISH, RUSSIAN])
def test_reads_a_long_picture(reader: Reader, truth: tuple[str, ...]) -> None:
    lines = truth * 24
    page = render(lines, 16)
    assert page.height > 4 * page.width
    assert error_rate(reader.read(page, None), " ".join(lines)) <= 0.01


def test_finds_small_print_on_a_large_page(reader: Reader) -> None:
    page = Image.new("RGB", (4600, 6400), "white")
    page.paste(render(ENGLISH, 20, margin=0), (2900, 5000))
    read = reader.read(page, None)
    assert error_rate(read, " ".join(ENGLISH)) <= 0.01
    assert read.lines[0].box[0] == pytest.approx(2900, abs=10)


def test_words_have_boxes_of_their_own(reader: Reader) -> None:
    page = reader.read(render(RUSSIAN, 28), None)
    for line in page.lines:
        assert line.words is not None
        assert " ".join(word.text for word in line.words) == line.text.replace("\t", " ")
        lefts = [word.box[0] for word in line.words]
        assert lefts == sorted(lefts)
        assert lefts[0] == line.box[0]
        assert all(0 < word.confidence <= 1 for word in line.words)
