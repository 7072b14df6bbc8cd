import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from itertools import starmap
from pathlib import Path

import pytest

from common.deadline import Deadline
from common.failures import ErrorCode, Refusal
from common.messages import Answer, Piece, Request, Usage
from runners.checkpoints import weights
from runners.vlm import request_images
from runners.vlm.engine import VlmEngine
from settings import Settings
from tests.support.models.engine_calls import all_of, alone, ask, rows, until, until_rows
from tests.support.models.text_family import ENTRY, Family, install
from tests.support.models.text_vlm import TextVlm


@pytest.fixture
def family(monkeypatch) -> Family:
    return install(monkeypatch)


@pytest.fixture
async def make_engine(family, tmp_path, monkeypatch) -> AsyncIterator[Callable[..., VlmEngine]]:
    monkeypatch.setattr("runners.checkpoints.weights.why_unavailable", lambda entry, settings: None)
    engines = []

    def make(**settings) -> VlmEngine:
        engines.append(VlmEngine(ENTRY, Settings(**{"kv_budget_gib": 1, **settings})))
        return engines[-1]

    yield make
    family.may_load.set()
    family.may_encode.set()
    for engine in engines:
        await engine.close()


@pytest.fixture
def engine(make_engine) -> VlmEngine:
    return make_engine()


def test_an_idle_engine_has_imported_no_torch():
    code = (
        "import sys; from runners.vlm.engine import VlmEngine; from common.catalog import CATALOG; "
        "from settings import Settings; VlmEngine(CATALOG['got_ocr'], Settings()); "
        "assert not {'torch', 'transformers', 'prometheus_client'} & set(sys.modules)"
    )
    root = Path(__file__).parents[3]
    assert subprocess.run([sys.executable, "-c", code], cwd=root, check=False).returncode == 0


async def test_each_answer_is_what_generate_gives_alone(engine):
    texts = [f"page {number}" for number in range(8)]
    answers = await asyncio.gather(*(engine.answer(*ask(text)) for text in texts))
    assert [answer.text for answer in answers] == [alone(text) for text in texts]


@pytest.mark.parametrize(("cores", "threads"), [(None, 2), (1, 2), (6, 6), (64, 8)])
def test_images_are_encoded_by_as_many_threads_as_there_are_cores(monkeypatch, cores, threads):
    monkeypatch.setattr("os.cpu_count", lambda: cores)
    assert VlmEngine(ENTRY, Settings())._encoders._max_workers == threads


async def test_an_answer_says_what_it_took(engine):
    answer = await engine.answer(*ask("page", new=5))
    assert answer.usage == Usage(prompt_tokens=4, visual_tokens=0, completion_tokens=5)
    assert answer.finish_reason == "length"


async def test_a_blank_page_has_no_text_and_asks_nothing_of_the_model(engine, monkeypatch):
    monkeypatch.setattr(TextVlm, "prefill", None)
    request = ask(task="ocr")
    answer = await engine.answer(*request)
    assert (answer.text, answer.finish_reason) == ("", "stop")
    assert answer.usage.completion_tokens == 0
    assert [piece async for piece in engine.stream(*request)] == [answer]


async def test_an_image_that_is_sent_again_is_not_decoded_again(engine, monkeypatch):
    request = ask(task="ocr")
    first = await engine.answer(*request)
    monkeypatch.setattr(request_images, "decode_with_warnings", pytest.fail)
    assert await engine.answer(*request) == first


async def test_pieces_make_up_the_text_and_the_answer_comes_last(engine):
    *pieces, answer = [item async for item in engine.stream(*ask(new=60))]
    assert isinstance(answer, Answer)
    assert all(isinstance(piece, Piece) and piece.text for piece in pieces)
    assert len(pieces) > 5
    assert "".join(piece.text for piece in pieces) == answer.text == alone("page", 60)


@pytest.mark.parametrize("new", [60, 12])
async def test_a_text_ends_before_its_stop_text_and_its_row_leaves(engine, family, new):
    whole = alone("page", 60)
    stop = whole[9:11]
    end = whole.index(stop)
    request = ask(new=new, stop=("no such text", stop))
    answer = await engine.answer(*request)
    assert (answer.text, answer.finish_reason) == (whole[:end], "stop")
    tokens = answer.usage.completion_tokens
    assert alone("page", tokens).endswith(stop)
    *pieces, streamed = [item async for item in engine.stream(*request)]
    assert "".join(piece.text for piece in pieces) == streamed.text == answer.text
    await until_rows(engine, 0)


async def test_a_row_ends_at_its_stop_text_long_before_its_last_token(engine, family):
    family.endless = True
    endless = ask(new=100_000, stop=("\x07",))
    answer = await engine.answer(*endless)
    assert answer.finish_reason == "stop"
    await until_rows(engine, 0)


async def test_a_stop_text_that_never_comes_changes_nothing(engine):
    request = ask(new=60, stop=("no such text", alone("page", 60) + "!"))
    *pieces, answer = [item async for item in engine.stream(*request)]
    assert "".join(piece.text for piece in pieces) == answer.text == alone("page", 60)


@pytest.mark.parametrize("limit", [2000, 1200])
async def test_a_loop_is_cut_alike_in_a_stream_and_in_a_whole_answer(engine, family, limit):
    family.loop = b"  no end, "
    request = ask(new=limit)
    answer = await engine.answer(*request)
    *pieces, streamed = await all_of(engine.stream(*request))
    assert "".join(piece.text for piece in pieces) == streamed.text == answer.text
    assert streamed == answer
    assert answer.finish_reason == "repetition"
    assert 3 <= answer.text.count("no end") <= 6
    assert 500 < answer.usage.completion_tokens < 600


async def test_rows_of_a_table_are_kept_whole_in_a_stream_too(engine, family):
    family.says = b" Totals\n" + 150 * b"| 0.00 |\n" + b"The end. "
    request = ask(new=4096)
    answer = await engine.answer(*request)
    *pieces, streamed = await all_of(engine.stream(*request))
    assert streamed == answer
    assert "".join(piece.text for piece in pieces) == answer.text == family.says.decode().strip()
    assert answer.finish_reason == "stop"
    assert answer.usage.completion_tokens == len(family.says)


async def test_equal_seeds_draw_equally_beside_any_neighbour(engine):
    def drawn(seed: int, **more: object) -> tuple[Request, Deadline]:
        return ask(new=30, temperature=1.0, seed=seed, **more)

    requests = [drawn(1), drawn(2), drawn(1), drawn(1, top_p=0.0), ask(new=30)]
    first, other, again, nucleus, greedy = [
        answer.text for answer in await asyncio.gather(*starmap(engine.answer, requests))
    ]
    assert first == again != other
    assert nucleus == greedy == alone("page", 30)


async def test_a_broken_image_is_refused_and_harms_nobody(engine):
    with pytest.raises(Refusal) as refused:
        await engine.answer(*ask(image=b"no image"))
    assert refused.value.code is ErrorCode.BAD_IMAGE
    assert (await engine.answer(*ask())).text == alone("page")


async def test_no_decoded_image_is_held_while_its_row_runs(engine, family):
    family.endless = True
    task = asyncio.create_task(engine.answer(*ask(new=100_000)))
    await until_rows(engine, 1)
    assert [image() for image in family.images] == [None]
    task.cancel()


async def test_a_cancelled_request_leaves_the_batch(engine, family):
    family.endless = True
    task = asyncio.create_task(engine.answer(*ask(new=100_000)))
    await until_rows(engine, 1)
    task.cancel()
    await until_rows(engine, 0)
    assert task.cancelled()


async def test_a_stream_that_is_closed_leaves_the_batch(engine, family):
    family.endless = True
    async with aclosing(engine.stream(*ask(new=100_000))) as items:
        assert isinstance(await anext(items), Piece)
        assert await rows(engine) == 1
    await until_rows(engine, 0)


async def test_a_request_that_is_cancelled_while_it_waits_is_never_prefilled(make_engine, family):
    family.endless = True
    engine = make_engine(kv_budget_gib=0)
    running = asyncio.create_task(engine.answer(*ask(new=100_000)))
    await until_rows(engine, 1)
    waiting = asyncio.create_task(engine.answer(*ask("next")))
    await asyncio.sleep(0.05)
    assert (await engine.status()).queued == 1
    waiting.cancel()
    await asyncio.wait([waiting])
    assert ((await engine.status()).rows, (await engine.status()).queued) == (1, 0)
    running.cancel()


async def test_a_request_that_is_cancelled_while_it_is_encoded_makes_no_row(engine, family):
    await engine.load()
    family.may_encode.clear()
    task = asyncio.create_task(engine.answer(*ask()))
    await asyncio.sleep(0.05)
    task.cancel()
    await asyncio.wait([task])
    family.may_encode.set()
    assert (await engine.answer(*ask())).text == alone("page")
    assert ((await engine.status()).rows, (await engine.status()).queued) == (0, 0)


async def test_first_requests_at_once_share_one_load(engine, family):
    await asyncio.gather(*(engine.answer(*ask()) for _ in range(5)))
    assert family.loads == 1


async def test_a_load_survives_the_request_that_began_it(engine, family):
    family.may_load.clear()
    first = asyncio.create_task(engine.answer(*ask()))
    await until(lambda: family.loads == 1)
    second = asyncio.create_task(engine.answer(*ask()))
    first.cancel()
    await asyncio.wait([first])
    assert (await engine.status()).state == "loading"
    family.may_load.set()
    assert (await second).text == alone("page")
    assert family.loads == 1


@pytest.mark.parametrize(
    ("code", "state"),
    [(ErrorCode.UNAVAILABLE, "unavailable"), (ErrorCode.OUT_OF_MEMORY, "unloaded")],
)
async def test_after_a_load_that_failed_the_next_request_tries_again(engine, family, code, state):
    family.error = Refusal(code, "There is no such luck.")
    refused = await asyncio.gather(
        *(engine.answer(*ask()) for _ in range(3)), return_exceptions=True
    )
    assert all(isinstance(error, Refusal) for error in refused)
    status = await engine.status()
    assert (status.state, status.reason) == (state, "There is no such luck.")
    family.error = None
    assert (await engine.answer(*ask())).text == alone("page")
    assert family.loads == 2
    await engine.unload()
    assert (await engine.status()).reason is None


async def test_a_device_on_which_the_model_cannot_be_built_is_too_small(engine, family):
    family.error = RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to")
    with pytest.raises(Refusal, match="too little free memory to load Text") as refused:
        await engine.answer(*ask())
    assert refused.value.code is ErrorCode.OUT_OF_MEMORY


async def test_a_model_larger_than_its_device_is_never_loaded(engine, family, monkeypatch):
    monkeypatch.setattr(weights, "memory_bytes", lambda entry, settings: 64 * 2**40)
    status = await engine.status()
    assert (status.state, status.needs_bytes) == ("unavailable", 64 * 2**40)
    with pytest.raises(
        Refusal, match=r"Text needs 65536\.0 GiB of memory; its device has"
    ) as refused:
        await engine.answer(*ask())
    assert refused.value.code is ErrorCode.UNAVAILABLE
    assert refused.value.failure.detail == status.reason
    assert family.loads == 0


async def test_after_a_fault_of_the_batcher_the_model_is_loaded_anew(engine, family, monkeypatch):
    await engine.load()

    def fault(batcher):
        raise ZeroDivisionError

    with monkeypatch.context() as patched:
        patched.setattr("runners.vlm.batcher.Batcher.step", fault)
        with pytest.raises(ZeroDivisionError):
            await engine.answer(*ask())
    assert (await engine.answer(*ask())).text == alone("page")
    assert family.loads == 2


async def test_the_time_limit_covers_the_load(engine, family):
    family.may_load.clear()
    with pytest.raises(Refusal) as refused:
        await engine.answer(*ask(seconds=0.05))
    assert refused.value.code is ErrorCode.DEADLINE
    family.may_load.set()
    assert (await engine.answer(*ask())).text == alone("page")
    assert family.loads == 1


async def test_past_its_time_limit_a_running_row_ends_with_what_it_has(engine, family):
    family.endless = True
    await engine.load()
    answer = await engine.answer(*ask(new=100_000, seconds=0.3))
    assert answer.finish_reason == "deadline"
    assert answer.text


async def test_past_its_time_limit_a_row_that_anothers_prefill_holds_up_ends_with_what_it_has(
    engine, family
):
    family.endless = True
    await engine.load()
    limited = ask(new=100_000, seconds=0.5)
    asked = asyncio.create_task(engine.answer(*limited))
    streamed = asyncio.create_task(all_of(engine.stream(*limited)))
    await until_rows(engine, 2)
    family.slow = 3.0
    other = asyncio.create_task(engine.answer(*ask(new=1)))
    *pieces, last = await asyncio.wait_for(streamed, 2)
    answer = await asyncio.wait_for(asked, 0.5)
    for one in (answer, last):
        assert (one.finish_reason, bool(one.text)) == ("deadline", True)
    assert "".join(piece.text for piece in pieces) == last.text
    family.endless = False
    await other


async def test_a_full_queue_refuses_at_once(make_engine, family):
    engine = make_engine(queue_size=2)
    family.may_load.clear()
    waiting = [asyncio.create_task(engine.answer(*ask())) for _ in range(2)]
    await until(lambda: family.loads == 1)
    with pytest.raises(Refusal) as refused:
        await engine.answer(*ask())
    assert refused.value.code is ErrorCode.QUEUE_FULL
    assert refused.value.failure.retry_after >= 1
    family.may_load.set()
    assert [answer.text for answer in await asyncio.gather(*waiting)] == [alone("page")] * 2


async def test_running_rows_take_no_place_in_the_queue(make_engine, family):
    family.endless = True
    engine = make_engine(queue_size=1)
    tasks = []
    for count in range(1, 4):
        tasks.append(asyncio.create_task(engine.answer(*ask(new=100_000))))
        await until_rows(engine, count)
    for task in tasks:
        task.cancel()


async def test_nothing_is_unloaded_where_nothing_is_loaded(engine):
    assert not await engine.unload()


async def test_an_unload_waits_for_the_running_rows_and_frees_the_model(engine, family):
    await engine.load()
    family.may_encode.clear()
    task = asyncio.create_task(engine.answer(*ask()))
    await asyncio.sleep(0.02)
    unloads = [asyncio.create_task(engine.unload()) for _ in range(2)]
    await asyncio.sleep(0.02)
    family.may_encode.set()
    assert (await task).text == alone("page")
    assert await asyncio.gather(*unloads) == [True, True]
    assert family.models[0]() is None
    assert (await engine.status()).state == "unloaded"


async def test_an_unload_refuses_what_is_not_done_in_time(make_engine, family):
    family.endless = True
    engine = make_engine(unload_timeout=0.05)
    task = asyncio.create_task(engine.answer(*ask(new=100_000)))
    await until_rows(engine, 1)
    assert await engine.unload()
    with pytest.raises(Refusal) as refused:
        await task
    assert refused.value.code is ErrorCode.UNAVAILABLE
    assert family.models[0]() is None


async def test_a_request_that_comes_during_an_unload_loads_again(engine, family):
    await engine.load()
    family.may_encode.clear()
    first = asyncio.create_task(engine.answer(*ask()))
    await asyncio.sleep(0.02)
    unload = asyncio.create_task(engine.unload())
    await asyncio.sleep(0.02)
    second = asyncio.create_task(engine.answer(*ask()))
    await asyncio.sleep(0.02)
    family.may_encode.set()
    assert await unload
    assert (await first).text == (await second).text == alone("page")
    assert family.loads == 2


async def test_an_idle_model_is_unloaded_after_keep_alive(make_engine, family):
    engine = make_engine(keep_alive=0.05)
    await engine.answer(*ask())
    await until(lambda: family.models[0]() is None)
    assert (await engine.answer(*ask())).text == alone("page")
    assert family.loads == 2


async def test_the_status_says_what_is_loaded(engine, family):
    assert (await engine.status()).state == "unloaded"
    await engine.load()
    status = await engine.status()
    assert (status.state, status.device, status.dtype) == ("loaded", "cpu", "float32")
    model = family.models[0]()
    assert status.memory_bytes == model.weights_bytes
    await asyncio.sleep(0.01)
    assert (await engine.status()).idle_seconds > 0


async def test_a_closed_engine_has_refused_what_was_left(engine, family):
    family.endless = True
    task = asyncio.create_task(engine.answer(*ask(new=100_000)))
    await until_rows(engine, 1)
    await engine.close()
    with pytest.raises(Refusal):
        await task
