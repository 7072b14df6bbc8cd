"""Text layers that are sound, and those that are not, each in a page that the tests draw."""

import io

import pypdfium2
import pytest
from PIL import Image, ImageFilter

from api.documents.text_layers.finding import TextLayers
from tests.support.files.documents import A4, layered, pdf, written
from tests.support.pages import ENGLISH

WORDS = " ".join(ENGLISH).replace("'", "’").split()
"""PDF's standard encoding has no other apostrophe."""
PLAIN = " ".join(ENGLISH).split()
SMALL = 400, 80, 100, 60
LARGE = 60, 80, 480, 500


def words(data: bytes, scale: float = 1.0) -> list[str] | None:
    found = TextLayers(data).find(0, lambda page: scale)
    return found and [word for word, *_ in found["words"]]


def scan(lines: tuple[str, ...] = ENGLISH) -> Image.Image:
    """A picture of the page that these lines print."""
    page = pypdfium2.PdfDocument(pdf(lines))[0]
    return page.render(scale=1.5).to_pil().filter(ImageFilter.GaussianBlur(0.5))


def photograph() -> Image.Image:
    return Image.effect_noise((160, 120), 90)


@pytest.mark.parametrize("turn", [0, 90, 180, 270])
def test_printed_text_is_sound_however_a_viewer_turns_the_page(turn: int) -> None:
    assert words(pdf(ENGLISH, turn=turn)) == WORDS


@pytest.mark.parametrize("scale", [0.5, 1.0, 200 / 72])
def test_words_lie_where_the_page_is_drawn(scale: float) -> None:
    data = pdf(ENGLISH[:1])
    drawn = pypdfium2.PdfDocument(data)[0].render(scale=scale).to_pil().convert("L")
    found = TextLayers(data).find(0, lambda page: scale)
    assert found is not None
    assert found["size"] == drawn.size
    lefts, tops, rights, bottoms = zip(*(box for _, box, _ in found["words"]), strict=True)
    around = min(lefts), min(tops), max(rights), max(bottoms)
    assert around == pytest.approx(drawn.point(lambda grey: 255 * (grey < 200)).getbbox(), abs=2)


def test_a_page_without_characters_has_none() -> None:
    assert words(pdf(())) is None
    assert words(layered(scan(), ())) is None


def test_text_that_is_not_seen_is_not_taken() -> None:
    assert words(pdf((), hidden="no such words")) is None
    assert words(pdf(ENGLISH, hidden="no")) == WORDS


@pytest.mark.parametrize(
    "line",
    [
        "Ïðîòîêîë ñîáðàíèÿ æèëüöîâ äîìà íîìåð ïÿòü",
        "0LQXWHV RI WKH KDUERXU ERDUG DQG RI WKH FRXQFLO",
        "IIpoTOKOJI co6paHHH >KHJIbuOB goMa HoMep 5",
        "|~ .;: ''^ ~~ {}| [;: ~^ |~| ;;: l1| ^^~ {{|",
    ],
)
def test_garbage_is_not_taken(line: str) -> None:
    assert words(pdf((line,) * 3)) is None


def test_characters_that_the_font_does_not_explain_are_not_taken() -> None:
    encoding = "/Encoding<</Differences[65/g1/g2/g3/g4/g5/g6/g7/g8/g9/g10/g11/g12]>>"
    data = pdf(("ABCDEFGHIJKL " * 4,) * 3)
    explained = data.replace(b"/BaseFont/Helvetica", b"/BaseFont/Helvetica" + encoding.encode())
    assert words(data) is not None
    assert words(explained) is None


@pytest.mark.parametrize("line", ["Gruesse aus Koeln: 12,50 EUR", "No. 7731 / 14.03.2024", "A1"])
def test_short_and_numeric_text_is_sound(line: str) -> None:
    assert words(pdf((line,))) == line.split()


def test_a_scan_whose_layer_covers_it_is_taken() -> None:
    assert words(layered(scan(), ENGLISH)) == PLAIN


@pytest.mark.parametrize("layer", [ENGLISH[:2], ENGLISH[3:], ("Scanned with a telephone",)])
def test_a_scan_whose_layer_is_partial_is_not_taken(layer: tuple[str, ...]) -> None:
    assert words(layered(scan(), layer)) is None


def test_a_scan_whose_layer_lies_elsewhere_is_not_taken() -> None:
    assert words(layered(scan(), ("",) * 20 + ENGLISH)) is None


def test_a_picture_does_no_harm_unless_it_takes_much_of_the_page() -> None:
    assert words(layered(photograph(), (), place=SMALL, printed=ENGLISH)) == PLAIN
    assert words(layered(photograph(), (), place=LARGE, printed=ENGLISH)) is None


def test_text_on_a_plain_background_picture_is_sound() -> None:
    assert words(layered(Image.new("RGB", (60, 80), "#ddeeff"), (), printed=ENGLISH)) == PLAIN


def test_what_is_filled_into_a_form_is_part_of_the_text() -> None:
    document = pypdfium2.PdfDocument(_form("Anna Petrova"))
    file = io.BytesIO()
    document.save(file)
    assert words(file.getvalue()) == ["Name:", "Anna", "Petrova"]


def _form(value: str) -> bytes:
    look = f"BT /F 14 Tf 2 4 Td ({value}) Tj ET"
    page = "BT /F 14 Tf 56 700 Td (Name:) Tj ET"
    font = "<</F<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>>>"
    return written(
        [
            "<</Type/Catalog/Pages 2 0 R/AcroForm<</Fields[5 0 R]>>>>",
            "<</Type/Pages/Count 1/Kids[3 0 R]>>",
            f"<</Type/Page/Parent 2 0 R/MediaBox[0 0 {A4[0]} {A4[1]}]"
            f"/Resources<</Font {font}>>/Contents 4 0 R/Annots[5 0 R]>>",
            f"<</Length {len(page)}>>stream\n{page}\nendstream",
            f"<</Type/Annot/Subtype/Widget/FT/Tx/T(name)/V({value})/F 4/P 3 0 R"
            "/Rect[120 696 300 716]/AP<</N 6 0 R>>>>",
            f"<</Type/XObject/Subtype/Form/BBox[0 0 180 20]/Resources<</Font {font}>>"
            f"/Length {len(look)}>>stream\n{look}\nendstream",
        ]
    )


def test_a_page_that_is_lettered_sideways_is_not_taken() -> None:
    sideways = pdf(ENGLISH, turn=90).replace(b"/Rotate 90", b"/Rotate 0")
    assert words(sideways) is None


def test_the_drawn_font_size_does_not_matter() -> None:
    assert words(pdf(ENGLISH, font=6)) == WORDS
    assert words(pdf(ENGLISH[:1], font=30)) == ENGLISH[0].split()
