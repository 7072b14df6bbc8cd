import asyncio
import os
import signal
from collections.abc import Awaitable, Callable, Iterator

import psutil  # type: ignore[import-untyped]
import pytest
import uvloop

from api.documents import rasteriser
from api.documents.rasteriser import DrawingError, Rasteriser
from settings import Settings
from tests.support.fakes.runner import until
from tests.support.files.documents import pdf
from tests.support.pages import ENGLISH

SMALL = 10_000
"""Pixels of a page that is drawn at once."""
PROGRAM = rasteriser._PROGRAM


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop])
def run(request) -> Iterator[Callable]:
    """Runs a coroutine on asyncio's event loop, and on that of the server."""
    with asyncio.Runner(loop_factory=request.param) as runner:
        yield runner.run


@pytest.fixture
def program(monkeypatch, tmp_path) -> Callable[[str], None]:
    """Call it with what the process runs instead of the program."""

    def use(source: str) -> None:
        path = tmp_path / "program.py"
        path.write_text(source, "utf-8")
        monkeypatch.setattr(rasteriser, "_PROGRAM", path)

    return use


def children() -> list[psutil.Process]:
    return psutil.Process().children()


def opened(
    use: Callable[[Rasteriser], Awaitable[None]], data: bytes = pdf(ENGLISH, ENGLISH)
) -> Awaitable[None]:
    """A rasteriser of the document is used, and closed."""

    async def whole() -> None:
        rasteriser = Rasteriser(data, Settings())
        try:
            await rasteriser.open()
            await use(rasteriser)
        finally:
            await rasteriser.close()

    return whole()


async def fails(drawing: Awaitable[bytes]) -> None:
    with pytest.raises(DrawingError) as error:
        await drawing
    assert error.value.cause == "broken"


def test_closed_it_leaves_no_process(run):
    async def use(rasteriser):
        assert await rasteriser.draw(1, SMALL)
        assert len(children()) == 1

    run(opened(use))
    assert children() == []


def test_a_drawing_that_is_cancelled_leaves_no_process(run):
    async def use(rasteriser):
        drawing = asyncio.create_task(rasteriser.draw(1, 80_000_000))
        await asyncio.sleep(0.05)
        drawing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await drawing
        assert children() == []
        assert await rasteriser.draw(1, SMALL)

    run(opened(use, pdf(ENGLISH, size=(9000, 9000))))


@pytest.mark.parametrize("noticed", [False, True])
def test_a_process_that_died_between_pages_costs_one_page(run, noticed):
    async def use(rasteriser):
        assert await rasteriser.draw(1, SMALL)
        (process,) = children()
        process.kill()
        if noticed:
            await until(lambda: not process.is_running())
            await asyncio.sleep(0.05)
        await fails(rasteriser.draw(1, SMALL))
        assert await rasteriser.draw(2, SMALL)

    run(opened(use))
    assert children() == []


def test_a_process_that_dies_while_it_draws_costs_one_page(run):
    async def use(rasteriser):
        (process,) = children()
        drawing = asyncio.create_task(rasteriser.draw(1, 80_000_000))
        await asyncio.sleep(0.05)
        process.kill()
        await fails(drawing)
        assert await rasteriser.draw(1, SMALL)

    run(opened(use, pdf(ENGLISH, size=(9000, 9000))))


def test_a_process_that_hangs_costs_one_page(run, monkeypatch):
    async def use(rasteriser_):
        os.kill(children()[0].pid, signal.SIGSTOP)
        monkeypatch.setattr(rasteriser, "PAGE_SECONDS", 0.1)
        await fails(rasteriser_.draw(2, SMALL))
        monkeypatch.undo()
        assert await rasteriser_.draw(2, SMALL)

    run(opened(use))


@pytest.mark.parametrize(
    "source",
    [
        "",
        "print('{', flush=True)",
        "print('no JSON', flush=True)",
        "print(5, flush=True)",
        "print('[' * 100_000, flush=True)",
        "print('{\"size\": 9}', flush=True)",
        "import sys; sys.stdin.buffer.read(100); print('{', end='')",
    ],
)
@pytest.mark.parametrize("size", [0, 10_000_000])
def test_a_process_that_cannot_open_anything_makes_the_document_a_broken_one(
    run, program, source, size
):
    program(source)
    data = pdf(ENGLISH) + bytes(size)
    with pytest.raises(DrawingError) as error:
        run(opened(lambda _: asyncio.sleep(0), data))
    assert error.value.cause == "broken"
    assert children() == []


def test_a_program_that_cannot_be_started_makes_the_document_a_broken_one(run, monkeypatch):
    monkeypatch.setattr(rasteriser.sys, "executable", "/no/such/program")
    with pytest.raises(DrawingError):
        run(opened(lambda _: asyncio.sleep(0)))


@pytest.mark.parametrize("stop_signal", [signal.SIGTERM, signal.SIGINT])
def test_the_signals_that_stop_the_server_do_not_end_the_drawing(run, stop_signal):
    async def use(rasteriser):
        for number in (1, 2):
            drawing = asyncio.create_task(rasteriser.draw(number, 4_000_000))
            await asyncio.sleep(0.01)
            children()[0].send_signal(stop_signal)
            assert await drawing

    run(opened(use))


def test_the_process_is_in_no_group_of_the_server(run):
    async def use(_):
        assert os.getpgid(children()[0].pid) != os.getpgid(0)

    run(opened(use))


@pytest.mark.parametrize("stop_signal", ["SIGTERM", "SIGINT"])
def test_a_stop_signal_before_the_process_ignores_it_costs_nothing(
    run, program, tmp_path, stop_signal
):
    once = tmp_path / "once"
    program(f"""
import os, pathlib, runpy, signal
if not pathlib.Path({str(once)!r}).exists():
    pathlib.Path({str(once)!r}).touch()
    signal.signal(signal.{stop_signal}, signal.SIG_DFL)
    os.kill(os.getpid(), signal.{stop_signal})
runpy.run_path({str(PROGRAM)!r}, run_name="__main__")
""")

    async def use(rasteriser):
        assert await rasteriser.draw(2, SMALL)

    run(opened(use))
    assert once.exists()
