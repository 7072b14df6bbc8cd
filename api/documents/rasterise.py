"""The pages of one PDF or TIFF as images: a program, run by `documents.py` and never imported.

PDFium and the decoders of a TIFF meet a stranger's bytes here: in a process that can be killed when
it hangs, is limited in memory, and takes nobody along when it dies. PDFium allows one call at a
time in a process, too; with one process a document, documents do not wait for one another.

Standard input: a line of JSON with `size` (bytes of the document), `dpi`, `max_pixels` and
`seconds` (of CPU time, for a process that nobody ends); the document; then a line per page wanted,
its number from 0 and the most pixels for a page of a PDF to be drawn with. Standard output: a line
of JSON, `pages` or `error`; then a line per page, `error`, or `size` and as many bytes of an image.
"""

import io
import json
import math
import sys
from collections.abc import Callable
from typing import BinaryIO

from PIL import Image

Draw = Callable[[int, int], Image.Image]
"""The page's number and most pixels to an image."""

POINTS_PER_INCH = 72
REDUCED = 254, 1
"""NewSubfileType, and its bit that marks a smaller version of another page (TIFF 6.0)."""
MEMORY = 2**30
"""Bytes allowed, beside what an image of `max_pixels` takes."""
COPIES = 12
"""Bytes of a pixel: PDFium's and Pillow's, while one becomes the other and is encoded."""

Image.MAX_IMAGE_PIXELS = None


class Unreadable(Exception):
    """Its text is the `error` that is answered."""


def main(asked: BinaryIO, answered: BinaryIO) -> None:
    order = json.loads(asked.readline())
    _limit(order["seconds"], MEMORY + COPIES * order["max_pixels"])
    data = asked.read(order["size"])

    def say(content: bytes = b"", **fields: object) -> None:
        answered.write(json.dumps(fields).encode() + b"\n" + content)
        answered.flush()

    try:
        if b"%PDF-" in data[:1024]:
            count, draw = _pdf(data, order["dpi"])
        else:
            count, draw = _tiff(data, order["max_pixels"])
    except Unreadable as error:
        return say(error=str(error))
    say(pages=count)
    for line in asked:
        try:
            image = _encoded(draw(*map(int, line.split())))
        except Unreadable as error:
            say(error=str(error))
        except Exception:  # both libraries raise nearly anything on broken data
            say(error="broken")
        else:
            say(image, size=len(image))
    return None


def _pdf(data: bytes, dpi: float) -> tuple[int, Draw]:
    import pypdfium2  # not for a TIFF

    try:
        document = pypdfium2.PdfDocument(data)
    except pypdfium2.PdfiumError as error:
        causes = {
            pypdfium2.raw.FPDF_ERR_PASSWORD: "locked",
            pypdfium2.raw.FPDF_ERR_SECURITY: "locked",
            pypdfium2.raw.FPDF_ERR_SUCCESS: "empty",  # it opens no document without pages
        }
        raise Unreadable(causes.get(error.err_code, "broken")) from error
    document.init_forms()  # what was filled in is drawn, too
    count = len(document)

    def draw(number: int, most: int) -> Image.Image:
        page = document[number]
        try:
            width, height = page.get_size()
            scale = min(dpi / POINTS_PER_INCH, _largest_scale(width, height, most))
            return page.render(scale=scale).to_pil()
        finally:
            page.close()

    return count, draw


def _largest_scale(width: float, height: float, most: int) -> float:
    """At which (width * scale + 1) * (height * scale + 1), as sides are rounded up, is `most`."""
    area, sides = width * height, width + height
    return (math.sqrt(sides**2 + 4 * area * (most - 1)) - sides) / (2 * area)


def _tiff(data: bytes, max_pixels: int) -> tuple[int, Draw]:
    image = Image.open(io.BytesIO(data), formats=["TIFF"])
    frames = [0]
    try:
        while True:
            image.seek(image.tell() + 1)
            tag, bit = REDUCED
            if not image.tag_v2.get(tag, 0) & bit:  # type: ignore[attr-defined]
                frames.append(image.tell())
    except EOFError:
        pass
    except Exception:  # the page that cannot be found is a page: it fails when it is asked for
        frames.append(image.tell() + 1)

    def draw(number: int, most: int) -> Image.Image:
        image.seek(frames[number])
        if image.width * image.height > max_pixels:
            raise Unreadable(f"{image.width} x {image.height}")
        image.load()
        return image

    return len(frames), draw


def _encoded(image: Image.Image) -> bytes:
    """Lossless, in a third of the time that PNG takes."""
    file = io.BytesIO()
    image.save(file, "TIFF", compression="packbits")
    return file.getvalue()


def _limit(seconds: int, memory: int) -> None:
    if sys.platform != "linux":
        return
    import resource

    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    resource.setrlimit(resource.RLIMIT_DATA, (memory, memory))


if __name__ == "__main__":
    main(sys.stdin.buffer, sys.stdout.buffer)
