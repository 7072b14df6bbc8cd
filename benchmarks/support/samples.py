"""Pages with known texts in a folder.

The file `phrases.json` names for each page the phrases that a correct reading contains. The whole
text of a page is in `<page>.txt` or `<page>.gold.txt` beside its image. In the folder `receipts`
the texts hold the words of photographed receipts, in no order; in `failing`, the text of each file
is in `<file>.expected.txt`. White space is collapsed.
"""

import json
from pathlib import Path


def phrases(samples: Path) -> dict[Path, list[str]]:
    """The phrases of each image."""
    named: dict[str, list[str]] = json.loads((samples / "phrases.json").read_text("utf-8"))
    return {
        samples / name: [collapsed(phrase) for phrase in wanted] for name, wanted in named.items()
    }


def truths(samples: Path) -> dict[Path, str]:
    """The text of every image that has a file with its text beside it."""
    found = {}
    for text in sorted(samples.glob("*.txt")):
        stem = text.name.split(".")[0]
        for image in (samples / f"{stem}{suffix}" for suffix in (".png", ".jpg", ".tif")):
            if image.is_file():
                found[image] = collapsed(text.read_text("utf-8"))
    return found


def receipts(samples: Path) -> dict[Path, str]:
    """The words of every receipt."""
    return {
        image: collapsed(image.with_suffix(".txt").read_text("utf-8"))
        for image in sorted((samples / "receipts").glob("*.jpg"))
    }


def hard_pages(samples: Path) -> dict[Path, str]:
    """The text of every image that is hard to read; documents are left out."""
    texts = sorted((samples / "failing").glob("*.expected.txt"))
    files = {text.with_name(text.name.removesuffix(".expected.txt")): text for text in texts}
    return {
        file: collapsed(text.read_text("utf-8"))
        for file, text in files.items()
        if file.suffix != ".pdf"
    }


def hits(wanted: list[str], text: str) -> int:
    """How many of the phrases a collapsed text contains."""
    return sum(phrase in text for phrase in wanted)


def collapsed(text: str) -> str:
    return " ".join(text.split())
