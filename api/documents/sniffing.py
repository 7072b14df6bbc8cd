"""Recognises documents by their first bytes."""

import io
from typing import Literal

from PIL import Image

DocumentKind = Literal["PDF", "TIFF"]

PDF_HEADER_WITHIN = 1024
"""Bytes from the start in which viewers look for a PDF's header."""


def document_kind(data: bytes) -> DocumentKind | None:
    """The kind of a file that has pages; None for every other file.

    A TIFF with a single page is an image.
    """
    if b"%PDF-" in data[:PDF_HEADER_WITHIN]:
        return "PDF"
    return "TIFF" if _has_second_page(data) else None


def _has_second_page(data: bytes) -> bool:
    """Whether the file is a TIFF that says it has a second page, even one that cannot be read."""
    try:
        image = Image.open(io.BytesIO(data), formats=["TIFF"])
    except Exception:  # Pillow raises nearly anything on broken data
        return False
    with image:
        try:
            image.seek(1)
        except EOFError:
            return False
        except Exception:  # the page is there, though broken: reading it fails that page alone
            return True
    return True
