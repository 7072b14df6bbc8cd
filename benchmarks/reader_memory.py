"""Most memory that reading a page takes, in the processes of the embedded reader. Linux only.

    python -m benchmarks.reader_memory

draws pages, has each read by a process that has read ordinary pages, and prints the most resident
memory that the process had meanwhile. Beside it stands that of the process that makes a large image
manageable first, which ends after it.
"""

import argparse
import asyncio
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

from PIL import Image

from runners.process_pool.pool import ProcessPool
from runners.process_pool.worker import Worker
from runners.reader import large_images, page_worker
from runners.reader.large_images import ManageableImage
from runners.reader.read_page import ReadPage, UnreadPage
from settings import settings
from tests.support.pages import ENGLISH, RUSSIAN, encode, render

Page = Callable[[], bytes]
_FAST = {"WEBP": {"method": 0}, "AVIF": {"speed": 10}}
"""How the formats that take long are encoded."""
_LINES = (*ENGLISH, *RUSSIAN) * 4
_LARGE = (8900, 8900)
"""Nearly the most pixels that the service takes by default."""


def main() -> None:
    argparse.ArgumentParser(description=__doc__.split("\n")[0]).parse_args()
    print("| page | reader, MB | process for large images, MB |\n|---|---|---|")
    asyncio.run(measure())


def text_on(
    size: tuple[int, int],
    font_px: int = 30,
    *,
    mode: str = "RGB",
    lean: float = 0,
    rule: bool = False,
) -> Image.Image:
    """A page of this size with small text near its middle. rule: beside an upright rule."""
    page = Image.new("RGBA", size) if mode == "RGBA" else Image.new("RGB", size, "white")
    text = render(_LINES, font_px, ink="navy", rotation=lean)
    left, top = max(0, (size[0] - text.width) // 2), max(0, (size[1] - text.height) // 2)
    page.paste(text, (left, top))
    if rule:
        page.paste("black", (left + 10, 0, left + 13, size[1]))
    return page.convert(mode)


def file(format: str, size: tuple[int, int], **page: object) -> Page:
    return lambda: encode(text_on(size, **page), format, **_FAST.get(format, {}))  # type: ignore[arg-type]


ORDINARY: dict[str, Page] = {
    "A4 at 200 dpi": file("JPEG", (1654, 2339)),
    "A4 at 200 dpi, leaning by 20 degrees": file("JPEG", (1654, 2339), lean=20),
}
"""These are read first, for what a process keeps for good."""
UNUSUAL: dict[str, Page] = {
    "A4 at 200 dpi, once more": ORDINARY["A4 at 200 dpi"],
    "A4 at 300 dpi, colours, with a rule": file("JPEG", (2480, 3508), rule=True),
    "20 megapixels, colours": file("JPEG", (4400, 4500)),
    "10 megapixels, PNG with transparency": file("PNG", (3100, 3200), mode="RGBA"),
    "1080 x 25000": file("PNG", (1080, 25_000), font_px=24),
    "300 x 40000": file("PNG", (300, 40_000), font_px=12),
    "6000 x 8000, colours": file("JPEG", (6000, 8000)),
    "79 megapixels, grey": file("JPEG", _LARGE, mode="L"),
    "79 megapixels, colours": file("JPEG", _LARGE),
    "79 megapixels, colours, leaning by 20 degrees": file("JPEG", _LARGE, lean=20),
    "79 megapixels, PNG with transparency": file("PNG", _LARGE, mode="RGBA"),
    "79 megapixels, JPEG in CMYK": file("JPEG", _LARGE, mode="CMYK"),
    "79 megapixels, JPEG 2000": file("JPEG2000", _LARGE),
    "79 megapixels, WebP": file("WEBP", _LARGE),
    "79 megapixels, AVIF": file("AVIF", _LARGE),
}


async def measure() -> None:
    """Prints a row for each page."""
    reading: ProcessPool[UnreadPage, ReadPage] = ProcessPool(
        partial(page_worker.load, settings()), 1
    )
    try:
        await reading.start_all()
        for name, page in {**ORDINARY, **UNUSUAL}.items():
            unread, decoding_mb = await manageable(UnreadPage(await asyncio.to_thread(page), None))
            [worker] = reading.workers
            forget_peak(worker)
            await reading.run(unread)
            print(f"| {name} | {peak_mb(worker):.0f} | {decoding_mb} |", flush=True)
    finally:
        await reading.close()


async def manageable(page: UnreadPage) -> tuple[UnreadPage, str]:
    """The page as a reader's process gets it, and the most memory that this took, MB."""
    if not large_images.is_large(page.image):
        return page, ""
    decoding: ProcessPool[bytes, ManageableImage] = ProcessPool(large_images.load, 1)
    try:
        image = await decoding.run(page.image)
        [worker] = decoding.workers
        return replace(page, image=image.data), f"{peak_mb(worker):.0f}"
    finally:
        await decoding.close()


def forget_peak(worker: Worker[UnreadPage, ReadPage]) -> None:
    Path(f"/proc/{worker.pid}/clear_refs").write_text("5")


def peak_mb(worker: Worker[UnreadPage, ReadPage] | Worker[bytes, ManageableImage]) -> float:
    """The most resident memory since the start, or since `forget_peak`."""
    status = Path(f"/proc/{worker.pid}/status").read_text()
    [peak] = [line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:")]
    return int(peak) * 1024 / 1e6


if __name__ == "__main__":
    main()
