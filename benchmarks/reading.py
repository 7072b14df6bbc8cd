"""How well and how fast the embedded reader reads, beside plain Tesseract on the same pages.

    python -m benchmarks.reading --samples DIR

DIR holds `phrases.json` (file name to the phrases that a correct reading contains), and whole
truths as `<page>.txt` or `<page>.gold.txt` beside the page's image. White space is collapsed.
Seconds are CPU seconds of one thread.
"""

import argparse
import json
import os
import time
from collections.abc import Callable
from pathlib import Path

os.environ["OMP_THREAD_LIMIT"] = "1"  # read when tesserocr comes in

import tesserocr
from PIL import Image
from rapidfuzz.distance import Levenshtein

from runners.images import decode
from runners.reading import Reader
from runners.tesseract import find_tessdata
from settings import settings

Read = Callable[[Image.Image], str]


def main() -> None:
    parser = argparse.ArgumentParser(description="Accuracy and speed of the embedded reader.")
    parser.add_argument("--samples", type=Path, required=True)
    samples: Path = parser.parse_args().samples
    tessdata = find_tessdata(settings())
    reader = Reader(tessdata)
    plain = tesserocr.PyTessBaseAPI(str(tessdata), "rus+eng", psm=tesserocr.PSM.AUTO)

    def plainly(image: Image.Image) -> str:
        plain.SetImage(image)
        return plain.GetUTF8Text()

    readers: dict[str, Read] = {
        "plain Tesseract": plainly,
        "embedded reader": lambda image: reader.read(image, None).text,
    }
    print("| page | " + " | ".join(f"{name} | s" for name in readers) + " |")
    print("|---|" + "---|---|" * len(readers))
    phrases = json.loads((samples / "phrases.json").read_text())
    found = dict.fromkeys(readers, 0)
    for page, wanted in phrases.items():
        cells = []
        for name, read in readers.items():
            text, seconds = _timed(read, samples / page)
            hits = sum(_collapsed(phrase) in text for phrase in wanted)
            found[name] += hits
            cells.append(f"{hits} of {len(wanted)} phrases | {seconds:.2f}")
        print(f"| {page} | " + " | ".join(cells) + " |")
    total = sum(map(len, phrases.values()))
    print("| all | " + " | ".join(f"{n} of {total} phrases | " for n in found.values()) + "|")
    for path, truth in _truths(samples):
        cells = []
        for read in readers.values():
            text, seconds = _timed(read, path)
            rate = Levenshtein.distance(truth, text) / len(truth)
            cells.append(f"{rate:.2%} of characters wrong | {seconds:.2f}")
        print(f"| {path.name} | " + " | ".join(cells) + " |")


def _timed(read: Read, path: Path) -> tuple[str, float]:
    image = decode(path.read_bytes())
    start = time.process_time()
    text = read(image)
    return _collapsed(text), time.process_time() - start


def _truths(samples: Path) -> list[tuple[Path, str]]:
    """Every image that has its truth beside it, with that truth."""
    pairs = []
    for text in sorted(samples.glob("*.txt")):
        stem = text.name.split(".")[0]
        images = (samples / f"{stem}{suffix}" for suffix in (".png", ".jpg", ".tif"))
        pairs += [(image, _collapsed(text.read_text())) for image in images if image.is_file()]
    return pairs


def _collapsed(text: str) -> str:
    return " ".join(text.split())


if __name__ == "__main__":
    main()
