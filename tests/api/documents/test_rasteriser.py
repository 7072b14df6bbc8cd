import asyncio
import os
import signal

import psutil  # type: ignore[import-untyped]
import pytest

from api.documents import rasteriser
from api.documents.opening import Documents
from common.failures import Refusal
from settings import Settings
from tests.support.documents import pdf
from tests.support.pages import ENGLISH


def children() -> list[psutil.Process]:
    return psutil.Process().children()


async def test_closed_it_leaves_no_process():
    async with Documents(Settings()).open(pdf(ENGLISH)) as pages:
        await pages.image(1)
        assert len(children()) == 1
    assert children() == []


async def test_a_reader_that_goes_in_the_middle_of_a_page_leaves_no_process():
    async def read():
        async with Documents(Settings()).open(pdf(ENGLISH, size=(9000, 9000))) as pages:
            opened.set()
            await pages.image(1)

    opened = asyncio.Event()
    task = asyncio.create_task(read())
    await opened.wait()
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert children() == []


async def test_a_page_that_kills_its_process_fails_alone():
    async with Documents(Settings(pdf_dpi=36)).open(pdf(ENGLISH, ENGLISH)) as pages:
        await pages.image(1)
        children()[0].kill()
        with pytest.raises(Refusal, match="Page 1 of the PDF is broken"):
            await pages.image(1)
        assert await pages.image(2)


async def test_a_page_that_takes_too_long_fails_alone(monkeypatch):
    async with Documents(Settings(pdf_dpi=36)).open(pdf(ENGLISH, ENGLISH)) as pages:
        await pages.image(1)
        os.kill(children()[0].pid, signal.SIGSTOP)
        monkeypatch.setattr(rasteriser, "PAGE_SECONDS", 0.1)
        with pytest.raises(Refusal, match="Page 2 of the PDF is broken"):
            await pages.image(2)
        monkeypatch.undo()
        assert await pages.image(2)
