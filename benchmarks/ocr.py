"""Accuracy and speed of the embedded reader, plain Tesseract and plain rapidocr on the same pages.

    python -m benchmarks.ocr --samples DIR [--most N] [--skip-http]

`benchmarks/support/samples.py` describes the files of DIR. Then it prints pages per second over
HTTP, with one process of the reader and with two. `--most` limits the pages of each kind.
"""

import argparse
import asyncio
import os
import re
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import cycle, groupby, islice
from pathlib import Path

os.environ["OMP_THREAD_LIMIT"] = "1"  # read when tesserocr comes in

import httpx
import jiwer
import numpy as np
import tesserocr
from PIL import Image
from rapidocr import RapidOCR
from rapidocr.utils.typings import EngineType

from benchmarks.support.samples import (
    collapsed,
    hard_pages,
    hits,
    phrases,
    receipts,
    truths,
)
from common.failures import Refusal
from common.images import decode
from runners.reader.reading import Reader
from runners.reader.tessdata import find_tessdata
from settings import settings
from tests.support.server import Server

Read = Callable[[Image.Image], str]
PAGES = 8
ROUNDS = 2
CLIENTS = (1, 2, 8)
PROCESSES = (1, 2)


@dataclass(frozen=True)
class Page:
    """A page, and how its reading is judged."""

    file: Path
    kind: str
    errors: Callable[[str], str]
    """What is wrong with a collapsed text."""


def main() -> None:
    parser = argparse.ArgumentParser(description="Accuracy and speed of the embedded reader.")
    parser.add_argument(
        "--samples",
        type=Path,
        required=True,
        metavar="DIR",
        help="pages and their texts, as benchmarks/support/samples.py describes them",
    )
    parser.add_argument("--most", type=int, help="largest number of pages of each kind")
    parser.add_argument("--skip-http", action="store_true", help="no pages per second over HTTP")
    arguments = parser.parse_args()
    samples: Path = arguments.samples
    if not (samples / "phrases.json").is_file():
        parser.error("DIR needs a file phrases.json: see benchmarks/support/samples.py")
    print_accuracy(
        page
        for _, kind in groupby(pages(samples), lambda page: page.kind)
        for page in islice(kind, arguments.most)
    )
    if not arguments.skip_http:
        print()
        asyncio.run(print_speed(list(phrases(samples))))


def pages(samples: Path) -> Iterator[Page]:
    """The pages, kind by kind."""
    for file, wanted in phrases(samples).items():
        yield Page(file, "Russian scan", partial(_phrases_missing, wanted))
    for file, text in truths(samples).items():
        yield Page(file, "English scan", partial(_characters_wrong, text))
    for file, text in receipts(samples).items():
        yield Page(file, "receipt", partial(_words_wrong, text))
    for file, text in hard_pages(samples).items():
        yield Page(file, "hard page", partial(_characters_wrong, text))


def print_accuracy(pages: Iterable[Page]) -> None:
    """Seconds are CPU seconds of one thread, the faster of two readings."""
    tessdata = find_tessdata(settings().tessdata)
    reader = Reader(tessdata, settings().recognisers)
    languages = tesserocr.get_languages(str(tessdata))[1]
    tesseract = tesserocr.PyTessBaseAPI(
        str(tessdata), "+".join({"rus", "eng"} & set(languages)), psm=tesserocr.PSM.AUTO
    )
    rapid = RapidOCR(
        params={
            **{f"{part}.engine_type": EngineType.OPENVINO for part in ("Det", "Cls", "Rec")},
            "EngineConfig.openvino.inference_num_threads": 1,
            "EngineConfig.openvino.num_streams": 1,
            "Global.log_level": "error",
        }
    )

    def read_with_tesseract(image: Image.Image) -> str:
        tesseract.SetImage(image)
        return tesseract.GetUTF8Text()

    def read_with_rapid(image: Image.Image) -> str:
        found = rapid(np.asarray(image)[:, :, ::-1])
        return " ".join(getattr(found, "txts", None) or ())

    readers: dict[str, Read] = {
        "embedded reader": lambda image: reader.read(image, None).text,
        "plain Tesseract": read_with_tesseract,
        "plain rapidocr": read_with_rapid,
    }
    print("| page | kind | " + " | ".join(f"{name} | s" for name in readers) + " |")
    print("|---" * (2 + 2 * len(readers)) + "|")
    for page in pages:
        try:
            image = decode(page.file.read_bytes())
        except Refusal:
            print(f"| {page.file.name} | {page.kind} | not decoded |")
            continue
        cells = []
        for read in readers.values():
            text, seconds = _timed(read, image)
            cells.append(f"{page.errors(text)} | {seconds:.2f}")
        print(f"| {page.file.name} | {page.kind} | {' | '.join(cells)} |", flush=True)


def _phrases_missing(wanted: list[str], text: str) -> str:
    return f"{len(wanted) - hits(wanted, text)} of {len(wanted)} phrases missing"


def _characters_wrong(truth: str, text: str) -> str:
    return f"{jiwer.cer(truth, text):.1%} of characters wrong"


def _words_wrong(truth: str, text: str) -> str:
    """By words in whatever order, as the texts of receipts have none."""
    wanted, read = (Counter(re.findall(r"\w+", t.casefold())) for t in (truth, text))
    missing, wrong = (wanted - read).total(), (read - wanted).total()
    return (
        f"{missing / wanted.total():.1%} of words missing, {wrong / max(1, read.total()):.1%} added"
    )


async def print_speed(pages: list[Path]) -> None:
    """The faster of the rounds."""
    print("| clients | " + " | ".join(f"pages/s, {n} process(es)" for n in PROCESSES) + " |")
    print("|---|" + "---|" * len(PROCESSES))
    rates = []
    for processes in PROCESSES:
        with Server(models="reader", reader_processes=processes) as server:
            async with httpx.AsyncClient(base_url=str(server.client.base_url), timeout=60) as http:
                await _pages_a_second(http, pages[-1:] * 4, 4)  # loads every process
                work = list(islice(cycle(pages), PAGES))
                rounds = [
                    [await _pages_a_second(http, work, n) for n in CLIENTS] for _ in range(ROUNDS)
                ]
                rates.append([max(row) for row in zip(*rounds, strict=True)])
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


def _timed(read: Read, image: Image.Image) -> tuple[str, float]:
    seconds = []
    for _ in range(2):
        start = time.process_time()
        text = read(image)
        seconds.append(time.process_time() - start)
    return collapsed(text), min(seconds)


if __name__ == "__main__":
    main()
