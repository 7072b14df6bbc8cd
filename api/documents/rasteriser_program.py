"""The program that draws the pages of one PDF or TIFF: run by `rasteriser.py`, never imported.

PDFium and the TIFF decoders read untrusted bytes here, in a process that is killed when it hangs,
is limited in memory, and takes nothing else along when it crashes. PDFium allows one call at a
time in a process, too; with a process for each document, documents do not wait for one another.

Standard input:
- one line of JSON with `size` (bytes of the document), `kind` ("PDF" or "TIFF"), `dpi`,
  `max_pixels` and `seconds` (limit on CPU time, for a process that nobody ends);
- the document;
- a line for each page wanted: "draw" or "text", its number from 0, and the most pixels to draw a
  PDF's page with. "text" asks for the text layer of a PDF's page that is drawn so.

Standard output:
- one line of JSON with `pages`, their number, or `error`;
- for each page wanted one line of JSON with `error`; or with `too_large`, the width and height of a
  TIFF's page with too many pixels; or with `size`, followed by as many bytes: of an encoded image,
  or of the text layer in JSON, which is null for a page without a sound one.

The process ignores the signals that stop the server, because a stopping server still answers the
requests that it has accepted. It ends when its gateway closes the pipes or is gone.
"""

import io
import json
import math
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from PIL import Image

if TYPE_CHECKING:
    from api.documents.text_layers.finding import TextLayers

Answer = Callable[[int, int], bytes]
"""Answers about the page of a number from 0, drawn with at most so many pixels if it is a PDF's."""

POINTS_PER_INCH = 72
NEW_SUBFILE_TYPE = 254
"""The TIFF tag that says what a frame is (TIFF 6.0)."""
REDUCED_VERSION = 1
"""The bit of that tag that marks a smaller version of another page."""
BASE_MEMORY = 2**30
"""Bytes allowed beside what an image of `max_pixels` takes."""
BYTES_PER_PIXEL = 12
"""What the copies of PDFium and Pillow take while one becomes the other and is encoded."""

# The limit on pixels is ours, and checked before decoding.
Image.MAX_IMAGE_PIXELS = None


class Unreadable(Exception):
    """Raised if the document cannot be read. The text is the `error` that is answered."""


class TooLarge(Exception):
    """Raised if a page has more pixels than are allowed."""

    def __init__(self, size: tuple[int, int]) -> None:
        super().__init__(size)
        self.size = size


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
        if header["kind"] == "PDF":
            count, answers = _open_pdf(data, header["dpi"])
        else:
            count, answers = _open_tiff(data, header["max_pixels"])
    except Unreadable as error:
        return answer(error=str(error))
    answer(pages=count)
    for line in stdin:
        what, number, max_pixels = line.split()
        try:
            content = answers[what](int(number), int(max_pixels))
        except TooLarge as error:
            answer(too_large=error.size)
        except Exception:  # both libraries raise nearly anything on broken data
            answer(error="broken")
        else:
            answer(content, size=len(content))
    return None


def _open_pdf(data: bytes, dpi: float) -> tuple[int, dict[bytes, Answer]]:
    """The number of pages, and the functions that answer. Raises `Unreadable`."""
    import pypdfium2  # a TIFF's process does without

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
        return min(dpi / POINTS_PER_INCH, _largest_scale(width, height, max_pixels))

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

    return count, {b"draw": draw, b"text": text}


def _text_layers(data: bytes) -> "TextLayers":
    # Behind all other paths: nothing of the project may stand in for a library.
    sys.path.append(str(Path(__file__).parents[2]))
    from api.documents.text_layers.finding import TextLayers

    return TextLayers(data)


def _largest_scale(width: float, height: float, max_pixels: int) -> float:
    """The scale at which (width * scale + 1) * (height * scale + 1) is `max_pixels`.

    Each side is rounded up when the page is drawn, hence the 1.
    """
    area, sides = width * height, width + height
    return (math.sqrt(sides**2 + 4 * area * (max_pixels - 1)) - sides) / (2 * area)


def _open_tiff(data: bytes, max_pixels: int) -> tuple[int, dict[bytes, Answer]]:
    """The number of pages, and the function that draws them, which raises `TooLarge`."""
    image = Image.open(io.BytesIO(data), formats=["TIFF"])
    frames = [0]
    try:
        while True:
            image.seek(image.tell() + 1)
            subfile_type = image.tag_v2.get(NEW_SUBFILE_TYPE, 0)  # type: ignore[attr-defined]
            if not subfile_type & REDUCED_VERSION:
                frames.append(image.tell())
    except EOFError:
        pass
    except Exception:  # a frame that cannot be found counts as a page, which fails when drawn
        frames.append(image.tell() + 1)

    def draw(number: int, _: int) -> bytes:
        image.seek(frames[number])
        if image.width * image.height > max_pixels:
            raise TooLarge(image.size)
        image.load()
        return _encode(image)

    return len(frames), {b"draw": draw}


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
