"""Runs the process that draws the pages of one PDF.

The program that runs in it, and the protocol, are in `rasteriser_program.py`.
"""

import asyncio
import json
import sys
from collections.abc import Awaitable
from contextlib import suppress
from pathlib import Path

from pydantic import BaseModel

from settings import Settings

PAGE_SECONDS = 10.0
"""Time limit for drawing one page, and for opening the document."""
_PROGRAM = Path(__file__).with_name("rasteriser_program.py")


class DrawingError(Exception):
    """Raised if the document cannot be opened, or the page cannot be drawn.

    cause: "broken", also if the process died or took too long; a document may also be "locked" or
    "empty".
    """

    def __init__(self, cause: str) -> None:
        super().__init__(cause)
        self.cause = cause


class _ProcessDied(Exception):
    """Raised if the process ended, or sent a line that is not an answer."""


class _Answer(BaseModel):
    """The program's answer to one question."""

    pages: int = 0
    size: int = 0
    """Bytes of `content`, which follows the line."""
    error: str | None = None
    content: bytes = b""


class Rasteriser:
    """Draws one document's pages, one at a time, in a process of its own.

    If the process dies or hangs over a page, the next page gets a new process.
    """

    def __init__(self, data: bytes, settings: Settings) -> None:
        self._data = data
        self._header = {
            "size": len(data),
            "dpi": settings.pdf_dpi,
            "max_pixels": settings.max_image_pixels,
            "seconds": int(settings.request_timeout) + 1,
        }
        self._process: _Process | None = None
        self._turn = asyncio.Lock()

    async def open(self) -> int:
        """Open the document. Returns its number of pages. Raises `DrawingError`."""
        return (await self._answer(self._start())).pages

    async def draw(self, number: int, max_pixels: int) -> bytes:
        """Page `number`, from 1, as an encoded image. It has at most `max_pixels`.

        Raises `DrawingError`.
        """
        async with self._turn:
            return (await self._answer(self._ask("draw", number, max_pixels))).content

    async def text_layer(self, number: int, max_pixels: int) -> bytes:
        """The JSON of the text layer of a PDF's page, drawn as `draw` does; null without a sound
        one. Raises `DrawingError`.
        """
        async with self._turn:
            return (await self._answer(self._ask("text", number, max_pixels))).content

    async def has_cut_pictures(self, number: int) -> bool:
        """Whether a picture of page `number`, from 1, lacks its end. Raises `DrawingError`."""
        async with self._turn:
            return json.loads((await self._answer(self._ask("cut", number, 0))).content) is True

    async def close(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            await process.close()

    async def _answer(self, conversation: Awaitable[_Answer]) -> _Answer:
        """The process's answer. A process that does not answer in time is ended.

        Raises `DrawingError`.
        """
        try:
            async with asyncio.timeout(PAGE_SECONDS):
                answer = await conversation
        except (TimeoutError, _ProcessDied) as error:
            await self.close()
            raise DrawingError("broken") from error
        except asyncio.CancelledError:
            await self.close()  # the rest of this answer would be taken for the next one
            raise
        if answer.error is not None:
            raise DrawingError(answer.error)
        return answer

    async def _start(self) -> _Answer:
        try:
            return await self._open()
        except _ProcessDied:
            # A server that stops signals each of its processes, this one too, which may not ignore
            # the signal yet.
            await self.close()
            return await self._open()

    async def _open(self) -> _Answer:
        self._process = await _Process.start()
        return await self._process.ask(json.dumps(self._header).encode() + b"\n" + self._data)

    async def _ask(self, what: str, number: int, max_pixels: int) -> _Answer:
        if self._process is None:
            await self._start()
        assert self._process is not None
        return await self._process.ask(f"{what} {number - 1} {max_pixels}\n".encode())


class _Process:
    """One run of the program, and its pipes."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._process = process
        self._stdin = process.stdin
        self._stdout = process.stdout

    @classmethod
    async def start(cls) -> "_Process":
        """Starts the program. Raises `_ProcessDied` if that fails."""
        try:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-P",  # the modules beside the program are not its own
                str(_PROGRAM),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,
                start_new_session=True,  # what is sent to the server's group does not reach it
            )
        except OSError as error:
            raise _ProcessDied from error
        return cls(process)

    async def ask(self, question: bytes) -> _Answer:
        """The program's answer, with what follows it in `content`. Raises `_ProcessDied`."""
        try:
            self._stdin.write(question)
            await self._stdin.drain()
            answer = _Answer.model_validate_json(await self._stdout.readline())
            answer.content = await self._stdout.readexactly(answer.size)
        except (OSError, EOFError, RuntimeError, ValueError) as error:
            # EOFError: the content ends early. RuntimeError: uvloop's, for a pipe that is closed.
            # ValueError: the line is not an answer.
            raise _ProcessDied from error
        return answer

    async def close(self) -> None:
        with suppress(ProcessLookupError):
            self._process.kill()
        await self._process.communicate()
        with suppress(OSError, RuntimeError):
            await self._stdin.wait_closed()
