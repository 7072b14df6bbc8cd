"""Bytes of a stranger to pages: an image as it came, a PDF or a multi-page TIFF page by page.

A document is rendered in a process of its own (`rasterise.py`), a page at a time: it is made when
it is asked for, and held by nobody but who asked.
"""

import asyncio
import io
import json
import sys
from collections.abc import AsyncIterator, Awaitable, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Literal, Protocol

from PIL import Image

from common.failures import ErrorCode, Refusal
from common.images import inspect, size
from settings import Settings

Kind = Literal["PDF", "TIFF"]
PageRanges = Sequence[tuple[int, int]]
"""First and last page of each, from 1."""

OPEN_AT_ONCE = 16
"""Documents, each with a process of some 50 MB; others wait for one to be closed."""
PAGE_SECONDS = 10.0
"""To draw one page, or to find out how many there are."""
_UNREADABLE = {
    "locked": "is protected by a password: remove it and send the file again.",
    "empty": "has no pages.",
    "broken": "is broken or truncated: it could not be opened.",
}
_PROGRAM = Path(__file__).with_name("rasterise.py")


class Pages(Protocol):
    """What was opened. An image is one page, but no document."""

    is_document: bool
    count: int

    async def image(self, number: int, most: int | None = None) -> bytes:
        """Page `number`, from 1, as an encoded image; one of a PDF has at most so many pixels.

        Raises `Refusal` (BAD_IMAGE, TOO_LARGE).
        """


class Documents:
    """Opens what was uploaded; one for the whole gateway."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._places = asyncio.Semaphore(OPEN_AT_ONCE)

    @asynccontextmanager
    async def open(self, data: bytes) -> AsyncIterator[Pages]:
        """Raises `Refusal`: BAD_IMAGE for what is no image or document, or one that is broken,
        locked or empty; TOO_LARGE for an image of too many pixels."""
        kind = await asyncio.to_thread(self._kind, data)
        if kind is None:
            yield _Image(data)
            return
        async with self._places:
            document = _Document(data, kind, self._settings)
            try:
                await document.open()
                yield document
            finally:
                await document.close()

    def _kind(self, data: bytes) -> Kind | None:
        """None for an image that may be decoded. Raises `Refusal`."""
        kind = _kind(data)
        if kind is None:
            inspect(data, self._settings.max_image_pixels)
        return kind


def chosen(ranges: PageRanges | None, count: int, most: int) -> list[int]:
    """The pages of `ranges`, or all without them, each once and in the document's order.

    Raises `Refusal` (BAD_PARAMETER) for a page that is not there, or more than `most`.
    """
    ranges = ranges or [(1, count)]
    last = max(last for _, last in ranges)
    if last > count:
        raise Refusal(
            ErrorCode.BAD_PARAMETER, f"There is no page {last}: the document has {count} page(s)."
        )
    pages: set[int] = set()
    for first, last in ranges:
        pages.update(range(first, min(last, first + most) + 1))
    if len(pages) > most:
        raise Refusal(
            ErrorCode.BAD_PARAMETER,
            f"At most {most} page(s) a request are taken, and the document has {count}: choose "
            f"some with 'pages', as in pages=1-{most}.",
        )
    return sorted(pages)


class Shown:
    """What one question shows: images that have, all together, no more pixels than one may."""

    def __init__(self, settings: Settings) -> None:
        self._most = settings.max_image_pixels
        self._pixels = 0

    async def images(self, pages: Pages, numbers: Sequence[int]) -> list[bytes]:
        """Of these pages; those of a PDF are drawn as small as lets them all fit in.

        Raises `Refusal`: TOO_LARGE where they do not, or as `Pages.image` does.
        """
        images = []
        for number in numbers:
            images.append(await pages.image(number, max(1, self._most // len(numbers))))
            width, height = await asyncio.to_thread(size, images[-1])
            self._pixels += width * height
            if self._pixels > self._most:
                raise Refusal(
                    ErrorCode.TOO_LARGE,
                    f"The question's images have {self._pixels} pixels or more together; at most "
                    f"{self._most} are read: send fewer or smaller ones.",
                )
        return images


class _Image:
    is_document = False
    count = 1

    def __init__(self, data: bytes) -> None:
        self._data = data

    async def image(self, number: int, most: int | None = None) -> bytes:
        return self._data


class _Document:
    """Its process may die or hang of a page; the next page gets a new one."""

    is_document = True
    count = 0

    def __init__(self, data: bytes, kind: Kind, settings: Settings) -> None:
        self._data = data
        self._kind = kind
        self._settings = settings
        self._rasteriser: _Rasteriser | None = None
        self._turn = asyncio.Lock()

    async def open(self) -> None:
        """Raises `Refusal` (BAD_IMAGE)."""
        opened = await self._answer(self._start())
        if "error" in opened:
            raise Refusal(ErrorCode.BAD_IMAGE, f"The {self._kind} {_UNREADABLE[opened['error']]}")
        self.count = opened["pages"]

    async def image(self, number: int, most: int | None = None) -> bytes:
        async with self._turn:
            page = await self._answer(self._draw(number, most or self._settings.max_image_pixels))
        if page.get("error") == "broken":
            raise Refusal(
                ErrorCode.BAD_IMAGE,
                f"Page {number} of the {self._kind} is broken: it cannot be drawn.",
            )
        if "error" in page:
            raise Refusal(
                ErrorCode.TOO_LARGE,
                f"Page {number} has {page['error']} pixels; "
                f"at most {self._settings.max_image_pixels} are read.",
            )
        image: bytes = page["content"]
        return image

    async def close(self) -> None:
        rasteriser, self._rasteriser = self._rasteriser, None
        if rasteriser is not None:
            await rasteriser.close()

    async def _answer(self, conversation: Awaitable[dict[str, Any]]) -> dict[str, Any]:
        """What the process says; it has called itself broken where it dies, or takes too long."""
        try:
            async with asyncio.timeout(PAGE_SECONDS):
                return await conversation
        except (TimeoutError, OSError, asyncio.IncompleteReadError):
            await self.close()
            return {"error": "broken"}
        except asyncio.CancelledError:  # what it still says would be taken for the next answer
            await self.close()
            raise

    async def _start(self) -> dict[str, Any]:
        self._rasteriser = await _Rasteriser.start()
        order = {
            "size": len(self._data),
            "dpi": self._settings.pdf_dpi,
            "max_pixels": self._settings.max_image_pixels,
            "seconds": int(self._settings.request_timeout) + 1,
        }
        return await self._rasteriser.ask(json.dumps(order).encode() + b"\n" + self._data)

    async def _draw(self, number: int, most: int) -> dict[str, Any]:
        if self._rasteriser is None:
            await self._start()
        assert self._rasteriser is not None
        return await self._rasteriser.ask(b"%d %d\n" % (number - 1, most))


class _Rasteriser:
    """The process, and how to speak with it."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._process = process
        self._stdin = process.stdin
        self._stdout = process.stdout

    @classmethod
    async def start(cls) -> "_Rasteriser":
        return cls(
            await asyncio.create_subprocess_exec(
                sys.executable,
                "-P",  # the modules beside the program are not its own
                str(_PROGRAM),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,
            )
        )

    async def ask(self, what: bytes) -> dict[str, Any]:
        """Its answer, an image in `content`. Raises `OSError` or `IncompleteReadError`."""
        self._stdin.write(what)
        await self._stdin.drain()
        answer: dict[str, Any] = json.loads(await self._stdout.readuntil())
        if "size" in answer:
            answer["content"] = await self._stdout.readexactly(answer["size"])
        return answer

    async def close(self) -> None:
        with suppress(ProcessLookupError):
            self._process.kill()
        await self._process.communicate()
        with suppress(OSError):
            await self._stdin.wait_closed()


def _kind(data: bytes) -> Kind | None:
    """Of what has pages; None for all else. A TIFF of one page is an image."""
    if b"%PDF-" in data[:1024]:
        return "PDF"
    try:
        with Image.open(io.BytesIO(data), formats=["TIFF"]) as image:
            try:
                image.seek(1)
            except EOFError:
                return None
            except Exception:  # a page that cannot be found is a page
                return "TIFF"
    except Exception:
        return None
    return "TIFF"
