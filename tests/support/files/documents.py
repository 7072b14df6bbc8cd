"""PDFs and TIFFs that the tests write themselves, the hostile ones too."""

import io
from collections.abc import Sequence

from PIL import Image

A4 = 595, 842
"""Width, height in points."""
_TURNED = {0: (1, 0, 0, 1), 90: (0, 1, -1, 0), 180: (-1, 0, 0, -1), 270: (0, -1, 1, 0)}
"""The text matrix that makes text upright again on a page that a viewer turns clockwise."""


def wide_pages(*widths: int) -> bytes:
    """A TIFF of pages of these widths, each one pixel high."""
    return tiff(*(Image.new("RGB", (width, 1)) for width in widths))


def pdf(
    *pages: Sequence[str] | None,
    size: tuple[float, float] = A4,
    font: float = 14,
    turn: int = 0,
    hidden: str = "",
) -> bytes:
    """A page of each lines of Latin text; None is a page that is missing in the file.

    size: width and height of every page as it is seen, font: that of its letters, points. turn:
    degrees clockwise by which a viewer turns the page. hidden: what a text layer says instead.
    """
    kids = range(3, 3 + 2 * len(pages), 2)
    listed = " ".join(f"{kid} 0 R" for kid in kids)
    objects = [
        "<</Type/Catalog/Pages 2 0 R>>",
        f"<</Type/Pages/Count {len(pages)}/Kids[{listed}]>>",
    ]
    width, height = size
    media = (height, width) if turn % 180 else size
    for kid, lines in zip(kids, pages, strict=True):
        page = (
            f"<</Type/Page/Parent 2 0 R/MediaBox[0 0 {media[0]} {media[1]}]/Rotate {turn}"
            f"/Resources<</Font<</F<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>>>>>"
            f"/Contents {kid + 1} 0 R>>"
        )
        drawn = [_text(hidden, font, 0, (0, 0), "3 Tr")] if hidden else []
        for number, line in enumerate(lines or ()):
            x, y = 4 * font, height - (5 + 1.6 * number) * font
            place = {0: (x, y), 90: (height - y, x), 180: (width - x, height - y)}
            drawn.append(_text(line, font, turn, place.get(turn, (y, width - x))))
        content = "\n".join(drawn)
        stream = f"<</Length {len(content)}>>stream\n{content}\nendstream"
        objects += ["null", "null"] if lines is None else [page, stream]
    return written(objects)


def layered(
    picture: Image.Image,
    lines: Sequence[str],
    *,
    place: tuple[float, float, float, float] = (0, 0, *A4),
    printed: Sequence[str] = (),
    font: float = 14,
    cut: int = 0,
) -> bytes:
    """An A4 page with a picture on it, and an invisible layer of lines, such as a scanner makes.

    place: left, bottom, width, height of the picture, points. printed: lines that are drawn.
    Lines stand where those of `pdf` do. cut: bytes that the picture, a JPEG, lacks at its end.
    """
    file = io.BytesIO()
    picture.convert("RGB").save(file, "JPEG", quality=90)
    data = file.getvalue()
    stream = data[: len(data) - cut].hex() + ">"
    left, bottom, across, up = place
    drawn = [f"q {across} 0 0 {up} {left} {bottom} cm /I Do Q"]
    for mode, texts in (("3 Tr", lines), ("0 Tr", printed)):
        for number, line in enumerate(texts):
            where = 4 * font, A4[1] - (5 + 1.6 * number) * font
            drawn.append(_text(line, font, 0, where, mode))
    content = "\n".join(drawn)
    fonts = "<</F<</Type/Font/Subtype/Type1/BaseFont/Helvetica/Encoding/WinAnsiEncoding>>>>"
    return written(
        [
            "<</Type/Catalog/Pages 2 0 R>>",
            "<</Type/Pages/Count 1/Kids[3 0 R]>>",
            f"<</Type/Page/Parent 2 0 R/MediaBox[0 0 {A4[0]} {A4[1]}]"
            f"/Resources<</Font {fonts}/XObject<</I 5 0 R>>>>/Contents 4 0 R>>",
            f"<</Length {len(content)}>>stream\n{content}\nendstream",
            f"<</Type/XObject/Subtype/Image/Width {picture.width}/Height {picture.height}"
            "/ColorSpace/DeviceRGB/BitsPerComponent 8/Filter[/ASCIIHexDecode/DCTDecode]"
            f"/Length {len(stream)}>>stream\n{stream}\nendstream",
        ]
    )


def locked() -> bytes:
    """Encrypted with a password that nobody knows."""
    secret = f"<{'5a' * 32}>"
    return written(
        [
            "<</Type/Catalog/Pages 2 0 R>>",
            "<</Type/Pages/Count 0/Kids[]>>",
            f"<</Filter/Standard/V 1/R 2/P -4/O {secret}/U {secret}>>",
        ],
        "/Encrypt 3 0 R/ID[<00><00>]",
    )


def written(objects: Sequence[str], trailer: str = "") -> bytes:
    """A PDF of these objects, numbered from 1; the first is its catalogue."""
    file = "%PDF-1.4\n"
    places = ""
    for number, content in enumerate(objects, 1):
        places += f"{len(file):010d} 00000 n \n"
        file += f"{number} 0 obj\n{content}\nendobj\n"
    size = len(objects) + 1
    table = f"xref\n0 {size}\n0000000000 65535 f \n{places}"
    end = f"trailer<</Size {size}/Root 1 0 R{trailer}>>\nstartxref\n{len(file)}\n%%EOF"
    return (file + table + end).encode("latin-1")


def tiff(*pages: Image.Image) -> bytes:
    file = io.BytesIO()
    pages[0].save(file, "TIFF", save_all=True, append_images=pages[1:], compression="tiff_lzw")
    return file.getvalue()


def _text(text: str, font: float, turn: int, place: tuple[float, float], mode: str = "0 Tr") -> str:
    escaped = text.replace("\\", r"\\").replace("(", r"\(").replace(")", r"\)")
    matrix = " ".join(map(str, (*_TURNED[turn], *place)))
    return f"BT /F {font} Tf {mode} {matrix} Tm ({escaped}) Tj ET"
