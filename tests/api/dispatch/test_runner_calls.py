import asyncio
import socket

import pytest

from api.dispatch.runner_calls import RunnerCalls
from api.dispatch.runner_errors import RunnerLost
from common.deadline import Deadline
from common.failures import ErrorCode, Failure, Refusal
from common.messages import Piece, Request, single_turn
from tests.support.fakes.runner import GONE, Dies, Fails, picture

REQUEST = Request(task="ocr", turns=single_turn([picture()]), max_tokens=9)


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


async def test_a_runner_that_goes_while_it_works_is_lost_at_work(runner, fake):
    fake.outcome = Dies()
    with pytest.raises(RunnerLost, match="was lost while it worked on this") as lost:
        await runner.answer(REQUEST, Deadline(10))
    assert lost.value.may_have_started


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
                await RunnerCalls("got_ocr", url).answer(REQUEST, Deadline(10))
            assert not lost.value.may_have_started


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
