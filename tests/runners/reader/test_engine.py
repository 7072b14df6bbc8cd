import asyncio
import multiprocessing
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from common.catalog import CATALOG
from common.deadline import Deadline
from common.failures import ErrorCode, Refusal
from common.images import INCOMPLETE
from common.messages import Answer, Options, Piece, Request, Usage, single_turn
from runners.reader.engine import ReaderEngine
from runners.reader.tessdata import find_tessdata
from settings import Settings
from tests.support.pages import ENGLISH, LONG_PAGE, RUSSIAN, encode, render, size_of

ENTRY = CATALOG["tesseract"]
PAGE = encode(render(ENGLISH))


def ask(
    *images: bytes, prompt: str | None = None, seconds: float = 30, **fields: object
) -> tuple[Request, Deadline]:
    """To read the page, or to answer the prompt from the pages."""
    turns = single_turn(images or [PAGE], *([] if prompt is None else [prompt]))
    task = "ocr" if prompt is None else "chat"
    request = Request.model_validate({"task": task, "turns": turns, "max_tokens": 2048} | fields)
    return request, Deadline(seconds)


@pytest.fixture
async def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[ReaderEngine]:
    monkeypatch.setenv("CHATVLM_STATE", str(tmp_path / "state"))
    engine = ReaderEngine(ENTRY, Settings(queue_size=2))
    yield engine
    await engine.close()


async def test_a_page_is_read_with_its_lines(engine: ReaderEngine) -> None:
    answer = await engine.answer(*ask())
    assert answer.text.split() == " ".join(ENGLISH).split()
    assert answer.lines is not None
    assert [line.text for line in answer.lines] == list(ENGLISH)
    assert answer.image_size == render(ENGLISH).size
    assert answer.finish_reason == "stop"
    assert answer.blocks is None


async def test_the_size_is_that_of_the_page_once_upright(engine: ReaderEngine) -> None:
    width, height = render(RUSSIAN).size
    sideways = encode(render(RUSSIAN, rotation=90), "JPEG")
    answer = await engine.answer(*ask(sideways, language="ru"))
    assert answer.image_size == (width, height)


async def test_layout_mode_adds_blocks_around_their_lines(engine: ReaderEngine) -> None:
    answer = await engine.answer(*ask(options=Options(mode="layout")))
    assert answer.blocks is not None
    assert answer.lines is not None
    assert {block.category for block in answer.blocks} == {"Text"}
    assert "\n\n".join(block.text for block in answer.blocks) == answer.text
    (block,) = answer.blocks
    assert block.box == (
        min(line.box[0] for line in answer.lines),
        answer.lines[0].box[1],
        max(line.box[2] for line in answer.lines),
        answer.lines[-1].box[3],
    )


async def test_a_language_without_trained_data_is_read_with_a_warning(
    engine: ReaderEngine,
) -> None:
    answer = await engine.answer(*ask(language="de"))
    assert answer.warning is not None
    assert "German" in answer.warning
    assert answer.lines


async def test_a_question_is_answered_from_the_page(engine: ReaderEngine) -> None:
    answer = await engine.answer(*ask(prompt="What will the repairs cost?"))
    assert answer.text == ENGLISH[2]
    assert answer.prompt_used is True
    assert answer.lines is not None
    assert [line.text for line in answer.lines] == [ENGLISH[2]]


async def test_max_tokens_cuts_an_answer_between_words(engine: ReaderEngine) -> None:
    answer = await engine.answer(*ask(prompt="Read the text", max_tokens=3))
    assert (answer.text, answer.finish_reason) == ("Minutes of the", "length")


async def test_a_question_is_answered_from_all_the_images_shown(engine: ReaderEngine) -> None:
    pages = [encode(render(ENGLISH[:3])), encode(render(ENGLISH[3:]))]
    answer = await engine.answer(*ask(*pages, prompt="When is the next meeting?"))
    assert answer.text == ENGLISH[4]
    assert [(line.text, line.page) for line in answer.lines or ()] == [(ENGLISH[4], 2)]
    answer = await engine.answer(*ask(*pages, prompt="Read the text"))
    assert answer.text == "\n".join(ENGLISH[:3]) + "\n\n" + "\n".join(ENGLISH[3:])
    answer = await engine.answer(*ask(*pages, prompt="Describe this"))
    sizes = [f"{width} x {height}" for width, height in map(size_of, pages)]
    assert ", ".join(sizes) in answer.text


async def test_a_question_without_an_image_is_refused(engine: ReaderEngine) -> None:
    with pytest.raises(Refusal) as refusal:
        await engine.answer(*ask(prompt="What?", turns=single_turn([], "What?")))
    assert refusal.value.code is ErrorCode.BAD_PARAMETER


async def test_an_answer_ends_before_its_stop_text(engine: ReaderEngine) -> None:
    answer = await engine.answer(*ask(prompt="Read the text", stop=("the chair", "nine")))
    assert answer.text == f"{ENGLISH[0]}\nThe meeting was opened at "
    assert answer.finish_reason == "stop"


async def test_the_words_of_an_answer_are_counted(engine: ReaderEngine) -> None:
    answer = await engine.answer(*ask(prompt="What will the repairs cost?"))
    assert answer.usage == Usage(prompt_tokens=6, visual_tokens=0, completion_tokens=12)


async def test_a_stream_ends_with_the_answer_that_its_pieces_make(engine: ReaderEngine) -> None:
    *pieces, answer = [piece async for piece in engine.stream(*ask())]
    assert isinstance(answer, Answer)
    assert "".join(p.text for p in pieces if isinstance(p, Piece)) == answer.text
    assert len(pieces) > 1


async def test_a_broken_image_is_refused_and_the_next_page_read(engine: ReaderEngine) -> None:
    with pytest.raises(Refusal) as refusal:
        await engine.answer(*ask(PAGE[:60]))
    assert refusal.value.code is ErrorCode.BAD_IMAGE
    assert (await engine.answer(*ask())).lines


async def test_what_was_not_read_of_the_images_is_said_once(engine: ReaderEngine) -> None:
    answer = await engine.answer(*ask(PAGE[:-200]))
    assert answer.lines
    assert answer.warning == INCOMPLETE


async def test_past_its_time_limit_a_page_is_given_up(engine: ReaderEngine) -> None:
    await engine.load()
    with pytest.raises(Refusal) as refusal:
        await engine.answer(*ask(LONG_PAGE, seconds=0.05))
    assert refusal.value.code is ErrorCode.DEADLINE


async def test_a_cancelled_page_makes_way_for_the_next(engine: ReaderEngine) -> None:
    await engine.load()
    lines_read = _count_lines(engine)
    first = asyncio.create_task(engine.answer(*ask(LONG_PAGE)))
    while not lines_read:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    lines_read.clear()
    assert (await engine.answer(*ask())).text.startswith(ENGLISH[0])
    assert len(lines_read) < 40


async def test_a_page_cancelled_while_it_waits_never_starts(
    engine: ReaderEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = engine._read
    started = []
    monkeypatch.setattr(engine, "_read", lambda *args: (started.append(1), read(*args))[1])
    first = asyncio.create_task(engine.answer(*ask()))
    waiting = asyncio.create_task(engine.answer(*ask()))
    await asyncio.sleep(0)
    waiting.cancel()
    await first
    await engine.load()
    assert len(started) == 1


async def test_a_full_queue_refuses_at_once_and_loses_nothing(engine: ReaderEngine) -> None:
    accepted = [asyncio.create_task(engine.answer(*ask())) for _ in range(3)]
    await asyncio.sleep(0)
    with pytest.raises(Refusal) as refusal:
        await engine.answer(*ask())
    assert refusal.value.code is ErrorCode.QUEUE_FULL
    assert refusal.value.failure.retry_after == 1
    assert all(answer.lines for answer in await asyncio.gather(*accepted))


async def test_the_status_follows_the_model(engine: ReaderEngine) -> None:
    assert (await engine.status()).state == "unloaded"
    await engine.load()
    loaded = await engine.status()
    assert (loaded.state, loaded.device, loaded.rows, loaded.queued) == ("loaded", "cpu", 0, 0)
    assert loaded.memory_bytes is not None
    first, second = (asyncio.create_task(engine.answer(*ask())) for _ in range(2))
    await asyncio.sleep(0)
    busy = await engine.status()
    assert (busy.rows, busy.queued) == (1, 1)
    await asyncio.gather(first, second)
    assert await engine.unload() is True
    assert (await engine.status()).state == "unloaded"
    assert await engine.unload() is False


async def test_an_unload_lets_the_page_in_hand_be_read(engine: ReaderEngine) -> None:
    reading = asyncio.create_task(engine.answer(*ask()))
    while (await engine.status()).state != "loaded":  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    assert await engine.unload() is True
    assert (await reading).text.startswith(ENGLISH[0])


async def test_a_state_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    engine = ReaderEngine(ENTRY, Settings(state=tmp_path / "file"))
    with pytest.raises(Refusal, match="correct CHATVLM_STATE") as refusal:
        await engine.answer(*ask())
    assert refusal.value.code is ErrorCode.UNAVAILABLE
    await engine.close()


async def test_missing_trained_data_is_said_and_found_once_it_is_there(tmp_path: Path) -> None:
    folder = tmp_path / "tessdata"
    engine = ReaderEngine(ENTRY, Settings(tessdata=folder))
    status = await engine.status()
    assert status.state == "unavailable"
    assert status.reason is not None
    assert "rus.traineddata" in status.reason
    with pytest.raises(Refusal) as refusal:
        await engine.answer(*ask())
    assert refusal.value.code is ErrorCode.UNAVAILABLE
    shutil.copytree(find_tessdata(Settings().tessdata), folder)
    assert (await engine.status()).state == "unloaded"
    assert (await engine.answer(*ask())).lines
    await engine.close()


def other_process(pipe: Connection) -> None:
    """Reads a page, says so, and serves on until it is told to stop."""

    async def serve() -> None:
        engine = ReaderEngine(ENTRY, Settings())
        pipe.send((await engine.answer(*ask())).text)
        while not pipe.poll():  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        pipe.send(engine._reader is None)
        await engine.close()

    asyncio.run(serve())


async def test_an_unload_reaches_every_process(engine: ReaderEngine) -> None:
    spawn = multiprocessing.get_context("spawn")
    ours, theirs = spawn.Pipe()
    process = spawn.Process(target=other_process, args=(theirs,))
    process.start()
    try:
        text = await asyncio.to_thread(ours.recv)
        assert text.startswith(ENGLISH[0])
        assert (await engine.status()).state == "loaded"
        assert await engine.unload() is True
        assert (await engine.status()).state == "unloaded"
        ours.send("stop")
        assert await asyncio.to_thread(ours.recv) is True
    finally:
        process.kill()
        process.join()


def test_an_idle_engine_has_not_loaded_the_library() -> None:
    code = (
        "import sys; from common.catalog import CATALOG; from settings import Settings;"
        "from runners.reader.engine import ReaderEngine;"
        "ReaderEngine(CATALOG['tesseract'], Settings());"
        "sys.exit('tesserocr' in sys.modules or 'torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def _count_lines(engine: ReaderEngine) -> list[str]:
    """Grows by one at every line that the engine's reader begins."""
    reader = engine._reader
    assert reader is not None
    read = reader.read
    begun: list[str] = []

    def counting(image, language, check):  # type: ignore[no-untyped-def]
        return read(image, language, lambda: (begun.append("line"), check())[1])

    reader.read = counting  # type: ignore[method-assign]
    return begun
