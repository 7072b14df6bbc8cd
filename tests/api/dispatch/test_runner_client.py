import asyncio
import socket
import time
from collections.abc import AsyncIterator

import aiohttp
import pytest
from bentoml.exceptions import BentoMLException, InternalServerError

from api.dispatch import runner_client
from api.dispatch.runner_client import LocalRunnerClient, RunnerClient
from api.dispatch.runner_errors import RunnerLost
from common.deadline import Deadline
from common.failures import ErrorCode, Failure, Refusal
from common.messages import Answer, Piece, Request, Status, question
from tests.support.fake_runner import GONE, Beside, Dies, Fails, FakeRunner, picture, until

REQUEST = Request(task="ocr", turns=question([picture()]))
ANYWHERE = ("127.0.0.1", 0)


@pytest.fixture
async def fake() -> FakeRunner:
    return FakeRunner("got_ocr")


@pytest.fixture(params=["beside the gateway", "on another host"])
async def runner(request, fake, tmp_path_factory) -> AsyncIterator[RunnerClient]:
    is_local = request.param == "beside the gateway"
    async with fake.serve(tmp_path_factory.mktemp("s") / "s" if is_local else ANYWHERE):
        runner = (
            LocalRunnerClient("got_ocr", Beside(fake))
            if is_local
            else RunnerClient("got_ocr", fake.url)
        )
        yield runner
        runner.close()


async def test_it_answers_streams_loads_unloads_and_says_how_it_stands(runner, fake):
    fake.status = Status(state="unloaded", needs_bytes=5)
    assert await runner.status() == fake.status
    await runner.load()
    assert runner.last_status.state == "loaded"
    assert (await runner.answer(REQUEST, Deadline(10))).text == "4x3"
    assert [type(outcome) async for outcome in runner.stream(REQUEST, Deadline(10))] == [Answer]
    assert fake.requests == [REQUEST, REQUEST]
    assert await runner.unload()
    assert not await runner.unload()


async def test_a_failure_is_refused_in_its_words(runner, fake):
    fake.outcome = Failure(code=ErrorCode.QUEUE_FULL, detail="Full.", retry_after=3)
    with pytest.raises(Refusal) as refused:
        await runner.answer(REQUEST, Deadline(10))
    assert refused.value.failure == fake.outcome


async def test_a_fault_is_refused_in_ours_and_logged(runner, fake, caplog):
    fake.outcome = Fails()
    with pytest.raises(Refusal, match="failed on this request") as refused:
        await runner.answer(REQUEST, Deadline(10))
    assert refused.value.code is ErrorCode.FAULT
    assert "Model got_ocr failed on a request" in caplog.text


LOST = [
    aiohttp.ServerDisconnectedError(),
    aiohttp.ClientPayloadError("/tmp/x"),
    ConnectionResetError("/tmp/x"),
]
FAULTS = [BentoMLException("Traceback: /home/x"), InternalServerError("/home/x")]


@pytest.mark.parametrize("error", [*LOST, *FAULTS], ids=repr)
async def test_what_bentos_client_raises_is_refused_in_our_words(fake, error):
    beside = Beside(fake)
    beside.error = error
    with pytest.raises(Refusal, match="got_ocr") as refused:
        await LocalRunnerClient("got_ocr", beside).answer(REQUEST, Deadline(10))
    assert refused.value.code is (ErrorCode.UNAVAILABLE if error in LOST else ErrorCode.FAULT)
    assert "/" not in refused.value.failure.detail


async def test_a_runner_that_goes_while_it_works_is_lost_at_work(runner, fake):
    fake.outcome = Dies()
    with pytest.raises(RunnerLost, match="was lost while it worked on this") as lost:
        await runner.answer(REQUEST, Deadline(10))
    assert lost.value.at_work


@pytest.mark.parametrize("pieces", [[Piece(text="A ")], [Piece(text="A "), Dies()]])
async def test_a_stream_that_ends_without_its_answer_is_a_loss(runner, fake, pieces):
    fake.stream = pieces
    stream = runner.stream(REQUEST, Deadline(10))
    assert await anext(stream) == Piece(text="A ")
    with pytest.raises(RunnerLost):
        await anext(stream)


async def test_a_runner_that_is_not_there_has_not_begun(tmp_path):
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        for url in (f"file://{tmp_path}/nobody", "http://{}:{}".format(*nobody.getsockname())):
            with pytest.raises(RunnerLost, match=GONE) as lost:
                await RunnerClient("got_ocr", url).answer(REQUEST, Deadline(10))
            assert not lost.value.at_work


async def test_a_runner_that_does_not_say_how_it_stands_is_lost(runner, fake, monkeypatch):
    monkeypatch.setattr(runner_client, "STATUS_TIMEOUT", 0.1)
    fake.may_report_status.clear()
    with pytest.raises(RunnerLost, match=GONE):
        await runner.status()


@pytest.mark.parametrize("streamed", [True, False])
async def test_cancelling_a_call_stops_the_work(runner, fake, streamed):
    fake.may_answer.clear()
    call = (
        anext(runner.stream(REQUEST, Deadline(10)))
        if streamed
        else runner.answer(REQUEST, Deadline(10))
    )
    task = asyncio.ensure_future(call)
    await fake.has_got(1)
    await asyncio.wait_for(fake.waiting.wait(), 10)
    task.cancel()
    await asyncio.wait_for(fake.stopped.wait(), 10)


async def test_another_models_runner_never_answers(runner, fake):
    fake.model = "dots_ocr"
    detail = "'dots_ocr' answers where CHATVLM_REMOTE has a runner of model 'got_ocr'."
    with pytest.raises(Refusal, match=detail):
        await runner.load()
    runner.open()
    await until(lambda: runner.last_status.reason == detail)
    assert not runner.reachable


async def test_it_is_asked_once_it_answers_and_no_more_when_it_is_gone(tmp_path, fake, monkeypatch):
    monkeypatch.setattr(runner_client, "RECONNECT_SECONDS", 0.01)
    runner = RunnerClient("got_ocr", f"file://{tmp_path}/s")
    runner.open()
    await asyncio.sleep(0.05)
    assert not runner.reachable
    assert (await runner.cached_status()).reason == GONE
    for _ in range(2):
        async with fake.serve(tmp_path / "s"):
            await until(lambda: runner.reachable)
            assert (await runner.cached_status()).state == "loaded"
        await until(lambda: not runner.reachable)
        assert (await runner.cached_status()).reason == GONE
    assert runner.started
    runner.close()


async def test_a_runner_that_hangs_from_the_start_is_not_asked(runner, fake):
    fake.may_report_status.clear()
    runner.open()
    await asyncio.sleep(0.05)
    assert not runner.reachable
    fake.may_report_status.set()
    await until(lambda: runner.reachable)


async def test_nobody_waits_at_the_socket_of_a_runner_that_is_gone(fake, tmp_path):
    with socket.socket(socket.AF_UNIX) as kept:  # as `bentoml serve` keeps it
        kept.bind(str(tmp_path / "s"))
        kept.listen()
        runner = RunnerClient("got_ocr", f"file://{tmp_path}/s")
        async with fake.serve(kept.dup()):
            runner.open()
            await until(lambda: runner.reachable)
            await fake.accept_no_more()
            asking = asyncio.create_task(runner.status())
            await asyncio.sleep(0.05)
            assert not asking.done()
        with pytest.raises(RunnerLost, match=GONE):
            await asyncio.wait_for(asking, 1)
        assert not runner.reachable
        async with fake.serve(kept.dup()):
            await until(lambda: runner.reachable)
        runner.close()


async def test_how_it_stands_is_known_without_waiting_for_it(runner, fake):
    runner.open()
    await until(lambda: runner.reachable)
    fake.may_report_status.clear()
    began = time.monotonic()
    assert (await runner.cached_status()).state == "loaded"
    assert time.monotonic() - began < 1


async def test_a_request_in_flight_is_counted_until_it_ends(runner):
    with runner.track_call():
        assert runner.calls == 1
    assert runner.calls == 0
