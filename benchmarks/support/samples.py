"""Pages with known texts in a folder.

The file `phrases.json` names for each page the phrases that a correct reading contains. The whole
text of a page is in `<page>.txt` or `<page>.gold.txt` beside its image. White space is collapsed.
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


def hits(wanted: list[str], text: str) -> int:
    """How many of the phrases a collapsed text contains."""
    return sum(phrase in text for phrase in wanted)


def collapsed(text: str) -> str:
    return " ".join(text.split())
