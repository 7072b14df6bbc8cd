"""The program that draws the pages of one PDF: run by `rasteriser.py`, never imported.

PDFium reads untrusted bytes here, in a process that is killed when it hangs,
is limited in memory, and takes nothing else along when it crashes. PDFium allows one call at a
time in a process, too; with a process for each document, documents do not wait for one another.

Standard input:
- one line of JSON with `size` (bytes of the document), `dpi`, `max_pixels` and `seconds` (limit on
  CPU time, for a process that nobody ends);
- the document;
- a line for each page wanted: "draw", "text" or "cut", its number from 0, and the most pixels to
  draw it with. "text" asks for the text layer of a page that is drawn so, "cut" whether one of its
  pictures lacks its end.

Standard output:
- one line of JSON with `pages`, their number, or `error`;
- for each page wanted one line of JSON with `error`; or with `size`, followed by as many bytes: of
  an encoded image, or of JSON: the text layer, null for a page without a sound one, or a boolean.

The process ignores the signals that stop the server, because a stopping server still answers the
requests that it has accepted. It ends when its gateway closes the pipes or is gone.
"""

import ctypes
import io
import itertools
import json
import math
import signal
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import pypdfium2
import pypdfium2.raw as pdfium
from PIL import Image

if TYPE_CHECKING:
    from api.documents.text_layers.finding import TextLayers

Answer = Callable[[int, int], bytes]
"""Answers about the page of a number from 0, drawn with at most so many pixels."""

POINTS_PER_INCH = 72
A4_HEIGHT = 842
"""Points."""
LIKE_A4 = 1.25
"""A page whose longer side is at most so many times longer or shorter is drawn as an A4 is."""
COVERED_BY_IMAGES = 0.5
"""The part of a scanned page that its images cover at least."""
SMALLEST_PRINT = 5
USUAL_PRINT = 14
"""Points, with ascenders and descenders. A page of smaller letters than the smallest has points of
another size (UserUnit, which PDFium ignores), and is drawn as if its letters had the usual one."""
LETTERS_MEASURED = 200
"""How many letters of a page are measured at most."""
FALLBACK_FAMILIES = {
    pdfium.FXFONT_FF_FIXEDPITCH: (b"Liberation Mono", b"DejaVu Sans Mono"),
    pdfium.FXFONT_FF_ROMAN: (b"Liberation Serif", b"DejaVu Serif"),
    0: (b"Liberation Sans", b"DejaVu Sans"),
}
"""What is drawn with instead of fonts that are neither embedded nor installed, by their kind."""
JPEG_END = b"\xff\xd9"
JPEG_TAIL = 64
"""Bytes at the end of a JPEG in which its end mark is looked for: some writers pad it."""
JPEG_2000_STARTS = b"\x00\x00\x00\x0cjP", b"\xff\x4f\xff\x51"
PICTURES_CHECKED = 50
"""How many pictures of a page are checked at most."""
BASE_MEMORY = 2**30
"""Bytes allowed beside what an image of `max_pixels` takes."""
BYTES_PER_PIXEL = 12
"""What the copies of PDFium and Pillow take while one becomes the other and is encoded."""


class Unreadable(Exception):
    """Raised if the document cannot be read. The text is the `error` that is answered."""


class Fonts(pypdfium2.PdfSysfontBase):
    """Finds installed fonts for those that are not embedded.

    Where it finds none, PDFium takes fonts of its own, which have no Cyrillic.
    """

    def MapFont(
        self, _: Any, weight: int, italic: int, charset: int, pitch: int, face: Any, exact: Any
    ) -> Any:
        def find(name: Any) -> Any:
            return self.default.MapFont(self.default, weight, italic, charset, pitch, name, exact)

        found = find(face)
        if found or charset == pdfium.FXFONT_SYMBOL_CHARSET:
            return found
        families = next(names for kind, names in FALLBACK_FAMILIES.items() if pitch & kind == kind)
        for family in families:
            found = found or find(ctypes.create_string_buffer(family))
        return found


def main(stdin: BinaryIO, stdout: BinaryIO) -> None:
    for stop_signal in (signal.SIGTERM, signal.SIGINT):
        signal.signal(stop_signal, signal.SIG_IGN)
    header = json.loads(stdin.readline())
    _limit_resources(header["seconds"], BASE_MEMORY + BYTES_PER_PIXEL * header["max_pixels"])
    data = stdin.read(header["size"])

    def answer(content: bytes = b"", **fields: object) -> None:
        stdout.write(json.dumps(fields).encode() + b"\n" + content)
        stdout.flush()

    try:
        count, answers = _open_pdf(data, header["dpi"])
    except Unreadable as error:
        return answer(error=str(error))
    answer(pages=count)
    for line in stdin:
        what, number, max_pixels = line.split()
        try:
            content = answers[what](int(number), int(max_pixels))
        except Exception:  # PDFium may run out of memory, say
            answer(error="broken")
        else:
            answer(content, size=len(content))
    return None


def _open_pdf(data: bytes, dpi: float) -> tuple[int, dict[bytes, Answer]]:
    """The number of pages, and the functions that answer. Raises `Unreadable`."""
    Fonts().setup()
    try:
        document = pypdfium2.PdfDocument(data)
    except pypdfium2.PdfiumError as error:
        causes = {
            pypdfium2.raw.FPDF_ERR_PASSWORD: "locked",
            pypdfium2.raw.FPDF_ERR_SECURITY: "locked",
            pypdfium2.raw.FPDF_ERR_SUCCESS: "empty",  # PDFium opens no document without pages
        }
        raise Unreadable(causes.get(error.err_code, "broken")) from error
    document.init_forms()  # what was filled in is drawn, too
    count = len(document)

    def scale_of(page: pypdfium2.PdfPage, max_pixels: int) -> float:
        width, height = page.get_size()
        largest = _largest_scale(width, height, max_pixels)
        return min(_scale(page, dpi / POINTS_PER_INCH), largest)

    def draw(number: int, max_pixels: int) -> bytes:
        page = document[number]
        try:
            return _encode(page.render(scale=scale_of(page, max_pixels)).to_pil())
        finally:
            page.close()

    layers: TextLayers | None = None

    def text(number: int, max_pixels: int) -> bytes:
        nonlocal layers
        if layers is None:
            layers = _text_layers(data)
        found = layers.find(number, lambda page: scale_of(page, max_pixels))
        return json.dumps(found).encode()

    def cut(number: int, max_pixels: int) -> bytes:
        page = document[number]
        try:
            pictures = page.get_objects(filter=[pdfium.FPDF_PAGEOBJ_IMAGE], max_depth=2)
            checked = itertools.islice(pictures, PICTURES_CHECKED)
            return json.dumps(any(map(_is_cut, checked))).encode()
        finally:
            page.close()

    return count, {b"draw": draw, b"text": text, b"cut": cut}


def _is_cut(picture: pypdfium2.PdfImage) -> bool:
    """Whether a JPEG lacks its end, or a JPEG 2000 its start: PDFium draws what it can of them."""
    compression = (picture.get_filters() or [""])[-1]
    if compression not in ("DCTDecode", "JPXDecode"):
        return False
    data = bytes(picture.get_data(decode_simple=True))
    if compression == "DCTDecode":
        return JPEG_END not in data[-JPEG_TAIL:]
    return not data.startswith(JPEG_2000_STARTS)


def _text_layers(data: bytes) -> "TextLayers":
    # Behind all other paths: nothing of the project may stand in for a library.
    sys.path.append(str(Path(__file__).parents[2]))
    from api.documents.text_layers.finding import TextLayers

    return TextLayers(data)


def _scale(page: pypdfium2.PdfPage, usual: float) -> float:
    """Pixels a point: the usual number, unless the page's size and content say otherwise.

    Scans are saved with any size of page, and letters of any size appear in a PDF whose points are
    larger. So a page that is larger or smaller than an A4 is drawn by its content: not smaller than
    an A4 is, if it is a large page, and not larger, if it is a small one.
    """
    as_a4 = usual * A4_HEIGHT / max(page.get_size())
    if usual / LIKE_A4 <= as_a4 <= usual * LIKE_A4:
        return usual
    wanted = _scale_of_images(page) or usual
    if wanted == usual and as_a4 > usual:
        height = _height_of_letters(page)
        if 0 < height < SMALLEST_PRINT:
            wanted = usual * USUAL_PRINT / height
    return min(max(wanted, min(usual, as_a4)), max(usual, as_a4))


def _scale_of_images(page: pypdfium2.PdfPage) -> float | None:
    """Pixels a point of the images of a scanned page; None for other pages."""
    pixels = area = 0.0
    for image in page.get_objects(filter=[pdfium.FPDF_PAGEOBJ_IMAGE], max_depth=1):
        left, bottom, right, top = image.get_bounds()
        width, height = image.get_px_size()
        area += (right - left) * (top - bottom)
        pixels += width * height
    page_width, page_height = page.get_size()
    if area < COVERED_BY_IMAGES * page_width * page_height:
        return None
    return math.sqrt(pixels / area)


def _height_of_letters(page: pypdfium2.PdfPage) -> float:
    """The height of the page's usual letters, in points; 0 for a page without."""
    text = page.get_textpage()
    try:
        count = text.count_chars()
        heights = []
        for index in range(0, count, max(1, count // LETTERS_MEASURED)):
            _, bottom, _, top = text.get_charbox(index, loose=True)
            heights.append(top - bottom)
        return statistics.median(heights or [0.0])
    finally:
        text.close()


def _largest_scale(width: float, height: float, max_pixels: int) -> float:
    """The scale at which (width * scale + 1) * (height * scale + 1) is `max_pixels`.

    Each side is rounded up when the page is drawn, hence the 1.
    """
    area, sides = width * height, width + height
    return (math.sqrt(sides**2 + 4 * area * (max_pixels - 1)) - sides) / (2 * area)


def _encode(image: Image.Image) -> bytes:
    """A lossless TIFF, made in a third of the time that PNG takes."""
    file = io.BytesIO()
    image.save(file, "TIFF", compression="packbits")
    return file.getvalue()


def _limit_resources(seconds: int, memory: int) -> None:
    """Limits CPU time, in seconds, and memory, in bytes; on Linux only."""
    if sys.platform != "linux":
        return
    import resource

    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    resource.setrlimit(resource.RLIMIT_DATA, (memory, memory))


if __name__ == "__main__":
    main(sys.stdin.buffer, sys.stdout.buffer)
