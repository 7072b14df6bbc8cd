"""Accuracy and speed of the embedded reader, and of plain Tesseract on the same pages.

    python -m benchmarks.ocr --samples DIR

`benchmarks/support/samples.py` describes the files of DIR; whole texts are read as English. Then it
prints pages per second over HTTP, with one process of the reader and with two.
"""

import argparse
import asyncio
import os
import time
from collections.abc import Callable
from itertools import cycle, islice
from pathlib import Path

os.environ["OMP_THREAD_LIMIT"] = "1"  # read when tesserocr comes in

import httpx
import jiwer
import tesserocr
from PIL import Image

from benchmarks.support.samples import collapsed, hits, phrases, truths
from common.images import decode
from runners.reader.reading import Reader
from runners.reader.tessdata import find_tessdata
from settings import settings
from tests.support.server import Server

Read = Callable[[Image.Image], str]
PAGES = 24
CLIENTS = (1, 2, 8)
PROCESSES = (1, 2)


def main() -> None:
    parser = argparse.ArgumentParser(description="Accuracy and speed of the embedded reader.")
    parser.add_argument("--samples", type=Path, required=True)
    samples: Path = parser.parse_args().samples
    print_accuracy(samples)
    print()
    asyncio.run(print_speed(list(phrases(samples))))


def print_accuracy(samples: Path) -> None:
    """Seconds are CPU seconds of one thread."""
    tessdata = find_tessdata(settings().tessdata)
    ours = Reader(tessdata)
    russian, english = (
        tesserocr.PyTessBaseAPI(str(tessdata), languages, psm=tesserocr.PSM.AUTO)
        for languages in ("rus+eng", "eng")
    )

    def plainly(api: tesserocr.PyTessBaseAPI) -> Read:
        def read(image: Image.Image) -> str:
            api.SetImage(image)
            return api.GetUTF8Text()

        return read

    print("| page | plain Tesseract | s | embedded reader | s |\n|---|---|---|---|---|")
    found = [0, 0]
    total = 0
    for page, wanted in phrases(samples).items():
        total += len(wanted)
        cells = []
        for reader, read in enumerate((plainly(russian), lambda i: ours.read(i, None).text)):
            text, seconds = _timed(read, page)
            found[reader] += hits(wanted, text)
            cells.append(f"{hits(wanted, text)} of {len(wanted)} phrases | {seconds:.2f}")
        print(f"| {page.name} | {' | '.join(cells)} |")
    print("| all | " + " | ".join(f"{count} of {total} phrases |" for count in found) + " |")
    for path, truth in truths(samples).items():
        cells = []
        for read in (plainly(english), lambda i: ours.read(i, "en").text):
            text, seconds = _timed(read, path)
            cells.append(f"{jiwer.cer(truth, text):.2%} of characters wrong | {seconds:.2f}")
        print(f"| {path.name} | {' | '.join(cells)} |")


async def print_speed(pages: list[Path]) -> None:
    print("| clients | " + " | ".join(f"pages/s, {n} process(es)" for n in PROCESSES) + " |")
    print("|---|" + "---|" * len(PROCESSES))
    rates = []
    for processes in PROCESSES:
        with Server(models="reader", reader_processes=processes) as server:
            async with httpx.AsyncClient(base_url=str(server.client.base_url), timeout=60) as http:
                await _pages_a_second(http, pages[-1:] * 4, 4)  # loads every process
                work = list(islice(cycle(pages), PAGES))
                rates.append([await _pages_a_second(http, work, n) for n in CLIENTS])
    for clients, *row in zip(CLIENTS, *rates, strict=True):
        print(f"| {clients} | " + " | ".join(f"{rate:.2f}" for rate in row) + " |")


async def _pages_a_second(http: httpx.AsyncClient, pages: list[Path], clients: int) -> float:
    waiting = [page.read_bytes() for page in reversed(pages)]

    async def client() -> None:
        while waiting:
            answer = await http.post("/ocr", files={"file": waiting.pop()})
            answer.raise_for_status()

    began = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(clients)))
    return len(pages) / (time.perf_counter() - began)


def _timed(read: Read, path: Path) -> tuple[str, float]:
    image = decode(path.read_bytes())
    start = time.process_time()
    text = read(image)
    return collapsed(text), time.process_time() - start


if __name__ == "__main__":
    main()
