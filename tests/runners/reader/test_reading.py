from collections.abc import Iterator

import numpy as np
import pytest
from PIL import Image
from rapidfuzz.distance import Levenshtein

from runners.reader.lines.quads import Pixels
from runners.reader.lines.words import Character
from runners.reader.read_page import ReadPage
from runners.reader.reading import Reader
from runners.reader.tessdata import find_tessdata
from settings import Settings
from tests.support.pages import ENGLISH, RUSSIAN, render


@pytest.fixture(scope="module")
def reader() -> Iterator[Reader]:
    reader = Reader(find_tessdata(Settings().tessdata))
    yield reader
    reader.close()


def error_rate(page: ReadPage, truth: tuple[str, ...]) -> float:
    wanted, read = " ".join(truth), " ".join(page.text.split())
    return Levenshtein.distance(wanted, read) / len(wanted)


@pytest.mark.parametrize(("truth", "language"), [(ENGLISH, "en"), (RUSSIAN, "ru")])
@pytest.mark.parametrize("font_px", [14, 20, 32])
def test_reads_either_language_without_a_hint(
    reader: Reader, truth: tuple[str, ...], language: str, font_px: int
) -> None:
    page = reader.read(render(truth, font_px), None)
    assert page.language == language
    assert error_rate(page, truth) <= 0.01


@pytest.mark.parametrize("rotation", [1.5, -5, 90, 180, 270])
def test_reads_a_turned_page(reader: Reader, rotation: float) -> None:
    page = reader.read(render(RUSSIAN, rotation=rotation), None)
    assert error_rate(page, RUSSIAN) <= 0.01
    assert page.size[0] > page.size[1]


@pytest.mark.parametrize(
    "look", [{"noise": 30}, {"ink": "white", "paper": "black"}, {"ink": "white", "paper": "navy"}]
)
def test_reads_through_noise_and_from_dark_paper(reader: Reader, look: dict[str, object]) -> None:
    assert error_rate(reader.read(render(ENGLISH, **look), None), ENGLISH) <= 0.01  # type: ignore[arg-type]


@pytest.mark.parametrize("inverted", [False, True])
def test_reads_a_dim_page_under_a_shadow(reader: Reader, inverted: bool) -> None:
    colours = {"ink": "white", "paper": "black"} if inverted else {}
    page = np.asarray(render(RUSSIAN, **colours))
    shadow = np.linspace(0.2, 0.6, page.shape[1])[None, :, None]
    dim = Image.fromarray((page * shadow).astype(np.uint8))
    assert error_rate(reader.read(dim, None), RUSSIAN) <= 0.01


def test_reads_a_page_larger_than_it_needs_to_be(reader: Reader) -> None:
    page = Image.new("RGB", (4960, 7016), "white")
    page.paste(render(ENGLISH, 100, margin=0), (300, 300))
    read = reader.read(page, None)
    assert error_rate(read, ENGLISH) <= 0.01
    assert read.lines[0].box[0] == pytest.approx(300, abs=20)


def test_boxes_lie_where_the_lines_were_drawn(reader: Reader) -> None:
    lines = reader.read(render(ENGLISH, 24, margin=40), "en").lines
    assert [line.text for line in lines] == list(ENGLISH)
    for number, line in enumerate(lines):
        left, top, _, bottom = line.box
        middle = 40 + number * 36 + 14
        assert top < middle < bottom <= top + 36
        assert left == pytest.approx(40, abs=5)
        assert 0.8 < line.confidence <= 1


def test_a_skewed_line_has_a_box_around_it_on_the_page_as_it_was_sent(reader: Reader) -> None:
    page = render(ENGLISH, 24, rotation=5)
    _, top, _, bottom = reader.read(page, "en").lines[0].box
    ink = page.convert("L").point(lambda value: 255 * (value < 128)).getbbox()
    assert ink is not None
    assert top == pytest.approx(ink[1], abs=40)
    assert bottom - top > 40


def test_latin_words_within_russian_text_stay_latin(reader: Reader) -> None:
    truth = (
        "Программа написана на языке Python для Windows.",
        "Счёт пополнен на 45 GBP согласно закону N 149-ФЗ.",
    )
    assert reader.read(render(truth, 28), None).text.split() == " ".join(truth).split()


def test_few_lines_of_a_russian_page_are_read_in_latin_letters(
    reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    widths: list[int] = []
    latin = reader._reader.latin
    read = latin.read

    def note_width(line: Pixels) -> list[Character]:
        widths.append(line.shape[1])
        return read(line)

    monkeypatch.setattr(latin, "read", note_width)
    assert error_rate(reader.read(render(RUSSIAN, 28), None), RUSSIAN) <= 0.01
    assert sum(width > 8 * 48 for width in widths) == 1


def test_a_wrong_hint_does_not_spoil_the_reading(reader: Reader) -> None:
    assert error_rate(reader.read(render(ENGLISH), "ru"), ENGLISH) <= 0.05


def test_a_gap_between_paragraphs_is_a_blank_line(reader: Reader) -> None:
    page = reader.read(render([*ENGLISH[1:3], "", "", "", *ENGLISH[3:]]), "en")
    assert "\n\n" in page.text
    assert len(page.blocks) == 2


@pytest.mark.parametrize("size", [(1, 1), (2, 2), (1, 5000), (5000, 1), (600, 800)])
@pytest.mark.parametrize("colour", ["white", "black"])
def test_an_image_without_text_has_no_lines(
    reader: Reader, size: tuple[int, int], colour: str
) -> None:
    page = reader.read(Image.new("RGB", size, colour), None)
    assert (page.text, page.lines, page.size) == ("", [], size)


def test_a_photograph_has_no_lines(reader: Reader) -> None:
    waves = Image.radial_gradient("L").resize((640, 480)).convert("RGB")
    assert reader.read(waves, None).lines == []


def test_the_check_ends_the_reading_between_two_lines(reader: Reader) -> None:
    calls = 0

    def check() -> None:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        reader.read(render(ENGLISH), None, check)
    assert calls == 3
    assert error_rate(reader.read(render(ENGLISH), None), ENGLISH) == 0


def test_a_grey_page_reads_as_in_colours(reader: Reader) -> None:
    grey = render(("Received from John Smith", "Total 1,250.00"), 28).convert("L")
    assert reader.read(grey, None) == reader.read(grey.convert("RGB"), None)


def test_a_very_long_line_is_read_with_its_spaces(reader: Reader) -> None:
    truth = " ".join(["The quick brown fox 0123456789"] * 8)
    assert reader.read(render((truth,), 20), None).text == truth
