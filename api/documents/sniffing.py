"""Recognises documents by their bytes."""

from typing import Literal

from api.documents.tiff_pages import TiffPages
from common.images import is_image

DocumentKind = Literal["PDF", "TIFF"]

PDF_HEADER = b"%PDF-"
PDF_HEADER_WITHIN = 64 * 1024
"""Bytes from the start in which a PDF's header is looked for: programs that save mail or answers of
servers leave what came before it in the file."""


def document_kind(data: bytes) -> DocumentKind | None:
    """The kind of a file that has pages; None for every other file.

    A TIFF with a single page is an image, and so is an image that mentions a PDF's header.
    """
    if data.startswith(PDF_HEADER):
        return "PDF"
    if len(TiffPages(data)) > 1 and is_image(data):
        return "TIFF"
    if PDF_HEADER in data[:PDF_HEADER_WITHIN] and not is_image(data):
        return "PDF"
    return None


def from_pdf_header(data: bytes) -> bytes:
    """A PDF without what precedes its header: PDFium looks for it in the first 1024 bytes only."""
    return data[data.index(PDF_HEADER) :]
