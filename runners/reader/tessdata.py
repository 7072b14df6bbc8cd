"""Finds Tesseract's trained data, and says which of it the embedded reader needs.

`python -m runners.reader.tessdata [FOLDER]` prints the folder where the data was found. If it
was not, the command says what to install and exits with 1.
"""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

from common.failures import ErrorCode, Refusal

LANGUAGES = ("en", "ru")
"""ISO 639-1 codes of the languages that the reader reads."""

_DATA = ("rus",)
"""Names of the trained data: Cyrillic is read with Tesseract, all else with PP-OCR."""
_PROJECT = Path(__file__).parents[2]
_SYSTEM = ("/usr/share/tessdata", "/usr/local/share/tessdata", "/opt/homebrew/share/tessdata")


def find_tessdata(folder: Path | None) -> Path:
    """The first folder that holds all the trained data.

    folder: the only one that is looked into; None looks where it usually is.
    Raises `Refusal` (UNAVAILABLE) that says what to install.
    """
    for candidate in [folder] if folder else _usual_folders():
        if all((candidate / f"{name}.traineddata").is_file() for name in _DATA):
            return candidate
    if folder:
        files = ", ".join(f"{name}.traineddata" for name in _DATA)
        remedy = f"put {files} into the folder that CHATVLM_TESSDATA names, or unset it"
    else:
        remedy = "install " + ", ".join(f"tesseract-ocr-{name}" for name in _DATA)
    raise Refusal(ErrorCode.UNAVAILABLE, f"The reader's trained data is missing: {remedy}.")


def _usual_folders() -> Iterator[Path]:
    if prefix := os.environ.get("TESSDATA_PREFIX"):
        yield Path(prefix)
    yield _PROJECT / ".tessdata"
    yield from sorted(Path("/usr/share/tesseract-ocr").glob("*/tessdata"), reverse=True)
    yield from map(Path, _SYSTEM)


def main() -> None:
    given = sys.argv[1] if len(sys.argv) > 1 else ""
    try:
        print(find_tessdata(Path(given) if given else None))
    except Refusal as refusal:
        raise SystemExit(refusal.failure.detail) from None


if __name__ == "__main__":
    main()
