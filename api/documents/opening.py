"""Opens an uploaded file: an image as it came, a PDF or a TIFF with several pages page by page.

A page of a TIFF is an image as it came, too. A PDF has a process of its own, which draws a page
when it is asked for and does not keep it.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Protocol

from api.documents.rasteriser import DrawingError, Rasteriser
from api.documents.sniffing import DocumentKind, document_kind, from_pdf_header
from api.documents.text_layers.arranging import page_text
from api.documents.tiff_pages import TiffPages
from common.failures import ErrorCode, Refusal
from common.images import INCOMPLETE, check_size, read_size
from common.messages import PageText
from settings import Settings

MAX_OPEN_PDFS = 16
"""Each has a process of some 50 MB; further PDFs wait until one is closed."""
_UNREADABLE = {
    "locked": "is protected by a password: remove it and send the file again.",
    "empty": "has no pages.",
    "broken": "is broken or truncated: it could not be opened.",
}


class Pages(Protocol):
    """The pages of an opened file. An image is one page, but no document."""

    is_document: bool
    count: int

    async def image(self, number: int, max_pixels: int | None = None) -> bytes:
        """Page `number`, from 1, as an encoded image.

        max_pixels: a page of a PDF is drawn small enough to have no more.

        Raises `Refusal` (BAD_IMAGE, TOO_LARGE).
        """

    async def text_layer(self, number: int, max_pixels: int | None = None) -> PageText | None:
        """The text layer of page `number`, from 1, of a PDF; None if the page has no sound one.

        Boxes are in pixels of the image that `image` returns for the same arguments.
        """

    async def warning(self, number: int) -> str | None:
        """What its image does not show of page `number`, from 1, of a PDF; None for nothing."""


class Documents:
    """Opens uploaded files; one for the whole gateway."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._open_pdfs = asyncio.Semaphore(MAX_OPEN_PDFS)

    @asynccontextmanager
    async def open(self, data: bytes) -> AsyncIterator[Pages]:
        """The pages of an untrusted file, until the context ends.

        Raises `Refusal`: BAD_IMAGE for a file that is not an image or document, or one that is
        broken, locked or empty; TOO_LARGE for an image of too many pixels.
        """
        kind = await asyncio.to_thread(self._check, data)
        if kind is None:
            yield _Image(data)
            return
        if kind == "TIFF":
            yield _Tiff(data, self._settings)
            return
        async with self._open_pdfs:
            document = _Pdf(data, self._settings)
            try:
                await document.open()
                yield document
            finally:
                await document.close()

    def _check(self, data: bytes) -> DocumentKind | None:
        """The kind of document; None for an image that may be decoded. Raises `Refusal`."""
        kind = document_kind(data)
        if kind is None:
            check_size(data, self._settings.max_image_pixels)
        return kind


class _Image:
    is_document = False
    count = 1

    def __init__(self, data: bytes) -> None:
        self._data = data

    async def image(self, number: int, max_pixels: int | None = None) -> bytes:
        return self._data

    async def text_layer(self, number: int, max_pixels: int | None = None) -> None:
        return None

    async def warning(self, number: int) -> None:
        return None


class _Tiff:
    is_document = True

    def __init__(self, data: bytes, settings: Settings) -> None:
        self._pages = TiffPages(data)
        self.count = len(self._pages)
        self._max_pixels = settings.max_image_pixels

    async def image(self, number: int, max_pixels: int | None = None) -> bytes:
        return await asyncio.to_thread(self._page, number)

    async def text_layer(self, number: int, max_pixels: int | None = None) -> None:
        return None

    async def warning(self, number: int) -> None:
        return None

    def _page(self, number: int) -> bytes:
        page = self._pages.page(number)
        try:
            width, height = read_size(page)
        except Refusal as error:
            raise _broken_page(number, "TIFF") from error
        if width * height > self._max_pixels:
            raise Refusal(
                ErrorCode.TOO_LARGE,
                f"Page {number} has {width} x {height} pixels; at most {self._max_pixels} are "
                "read.",
            )
        return page


class _Pdf:
    is_document = True
    count = 0

    def __init__(self, data: bytes, settings: Settings) -> None:
        self._max_pixels = settings.max_image_pixels
        self._rasteriser = Rasteriser(from_pdf_header(data), settings)

    async def open(self) -> None:
        """Opens the document and counts its pages. Raises `Refusal` (BAD_IMAGE)."""
        try:
            self.count = await self._rasteriser.open()
        except DrawingError as error:
            raise Refusal(ErrorCode.BAD_IMAGE, f"The PDF {_UNREADABLE[error.cause]}") from error

    async def image(self, number: int, max_pixels: int | None = None) -> bytes:
        try:
            return await self._rasteriser.draw(number, max_pixels or self._max_pixels)
        except DrawingError as error:
            raise _broken_page(number, "PDF") from error

    async def text_layer(self, number: int, max_pixels: int | None = None) -> PageText | None:
        try:
            found = await self._rasteriser.text_layer(number, max_pixels or self._max_pixels)
            return await asyncio.to_thread(page_text, found)
        except DrawingError:
            return None  # drawing the page may still succeed

    async def warning(self, number: int) -> str | None:
        try:
            return INCOMPLETE if await self._rasteriser.has_cut_pictures(number) else None
        except DrawingError:
            return None  # what was drawn is read

    async def close(self) -> None:
        await self._rasteriser.close()


def _broken_page(number: int, kind: DocumentKind) -> Refusal:
    return Refusal(
        ErrorCode.BAD_IMAGE, f"Page {number} of the {kind} is broken: it cannot be drawn."
    )
