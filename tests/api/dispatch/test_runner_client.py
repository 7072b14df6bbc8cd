import asyncio
import socket
import time

import aiohttp
import pytest
from bentoml.exceptions import BentoMLException, InternalServerError

from api.dispatch import runner_client
from api.dispatch.runner_client import LocalRunnerClient, RunnerClient
from api.dispatch.runner_errors import RunnerLost
from common.deadline import Deadline
from common.failures import ErrorCode, Refusal
from common.messages import Answer, Request, Status, single_turn
from tests.support.fakes.runner import GONE, FakeDependency, picture, until

REQUEST = Request(task="ocr", turns=single_turn([picture()]), max_tokens=9)


async def test_it_answers_streams_loads_unloads_and_reports_its_status(runner, fake):
    fake.status = Status(state="unloaded", needs_bytes=5)
    assert await runner.status() == fake.status
    await runner.load()
    assert runner.last_status.state == "loaded"
    assert (await runner.answer(REQUEST, Deadline(10))).text == "4x3"
    assert [type(outcome) async for outcome in runner.stream(REQUEST, Deadline(10))] == [Answer]
    assert fake.requests == [REQUEST, REQUEST]
    assert await runner.unload()
    assert not await runner.unload()


LOST = [
    aiohttp.ServerDisconnectedError(),
    aiohttp.ClientPayloadError("/tmp/x"),
    ConnectionResetError("/tmp/x"),
]
FAULTS = [BentoMLException("Traceback: /home/x"), InternalServerError("/home/x")]


@pytest.mark.parametrize("error", [*LOST, *FAULTS], ids=repr)
async def test_what_bentomls_client_raises_is_refused_in_a_plain_sentence(fake, error):
    beside = FakeDependency(fake)
    beside.error = error
    with pytest.raises(Refusal, match="got_ocr") as refused:
        await LocalRunnerClient("got_ocr", beside).answer(REQUEST, Deadline(10))
    assert refused.value.code is (ErrorCode.UNAVAILABLE if error in LOST else ErrorCode.FAULT)
    assert "/" not in refused.value.failure.detail


async def test_a_runner_that_does_not_report_its_status_is_lost(runner, fake, monkeypatch):
    monkeypatch.setattr(runner_client, "STATUS_TIMEOUT", 0.1)
    fake.may_report_status.clear()
    with pytest.raises(RunnerLost, match=GONE):
        await runner.status()


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


async def test_no_call_waits_at_the_socket_of_a_runner_that_is_gone(fake, tmp_path):
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


async def test_the_cached_status_is_known_without_waiting_for_the_runner(runner, fake):
    runner.open()
    await until(lambda: runner.reachable)
    fake.may_report_status.clear()
    began = time.monotonic()
    assert (await runner.cached_status()).state == "loaded"
    assert time.monotonic() - began < 1


async def test_after_a_request_a_model_that_loaded_itself_is_known_to_be_loaded(runner, fake):
    fake.status = Status(state="unloaded")
    runner.open()
    await until(lambda: runner.reachable)
    with runner.track_request():
        fake.status = Status(state="loaded", memory_bytes=5)
    await until(lambda: runner.last_status == fake.status)
    runner.close()


async def test_a_request_is_counted_until_it_ends(runner):
    with runner.track_request():
        assert runner.requests == 1
    assert runner.requests == 0
