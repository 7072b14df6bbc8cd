import asyncio
import shutil
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from common.catalog import CATALOG
from common.deadline import Deadline
from common.failures import ErrorCode, Refusal
from common.images import INCOMPLETE
from common.messages import Answer, Options, Piece, Request, Usage, single_turn
from common.units import MIB
from runners.reader.engine import ReaderEngine
from runners.reader.tessdata import find_tessdata
from settings import Settings
from tests.support.pages import ENGLISH, LONG_PAGE, RUSSIAN, encode, render, size_of

ENTRY = CATALOG["reader"]
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
async def engine() -> AsyncIterator[ReaderEngine]:
    engine = ReaderEngine(ENTRY, Settings(queue_size=2, reader_processes=1))
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
    (process,) = engine._pool.workers
    first = asyncio.create_task(engine.answer(*ask(LONG_PAGE)))
    await asyncio.sleep(1)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    began = time.monotonic()
    assert (await engine.answer(*ask())).text.startswith(ENGLISH[0])
    assert time.monotonic() - began < 10  # the long page takes longer
    assert engine._pool.workers == [process]


@pytest.fixture
async def pair() -> AsyncIterator[ReaderEngine]:
    """An engine of two processes."""
    engine = ReaderEngine(ENTRY, Settings(reader_processes=2))
    yield engine
    await engine.close()


async def test_pages_of_a_question_are_read_side_by_side(pair: ReaderEngine) -> None:
    pages = [encode(render(ENGLISH[:3])), encode(render(ENGLISH[3:])), PAGE]
    asked = asyncio.create_task(pair.answer(*ask(*pages, prompt="Read the text")))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    status = await pair.status()
    assert (status.rows, status.queued) == (2, 1)
    assert (await asked).text.startswith(ENGLISH[0])
    assert len(pair._pool.workers) == 2


async def test_a_page_that_cannot_be_read_ends_the_others_of_its_question(
    engine: ReaderEngine,
) -> None:
    await engine.load()
    with pytest.raises(Refusal) as refusal:
        await engine.answer(*ask(PAGE[:45], LONG_PAGE, prompt="Read the text"))
    assert refusal.value.code is ErrorCode.BAD_IMAGE
    assert (await engine.answer(*ask())).lines


async def test_a_page_whose_process_is_killed_is_read_in_another_one(engine: ReaderEngine) -> None:
    await engine.load()
    (process,) = engine._pool.workers
    reading = asyncio.create_task(engine.answer(*ask()))
    await asyncio.sleep(0.1)
    process.kill()
    assert (await reading).text.startswith(ENGLISH[0])
    assert not process.is_alive


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
    assert loaded.memory_bytes > 20 * MIB
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


def test_an_idle_engine_has_not_loaded_the_library() -> None:
    code = (
        "import sys; from common.catalog import CATALOG; from settings import Settings;"
        "from runners.reader.engine import ReaderEngine;"
        "ReaderEngine(CATALOG['reader'], Settings());"
        "sys.exit('tesserocr' in sys.modules or 'torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
