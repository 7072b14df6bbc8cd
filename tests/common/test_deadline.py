import asyncio

import pytest

from common.deadline import Deadline
from common.failures import ErrorCode, Refusal


def test_what_is_left_is_what_crosses_to_another_process():
    deadline = Deadline(30)
    assert 29 < deadline.left <= 30
    assert 29 < Deadline(deadline.left).left <= deadline.seconds == 30


def test_a_deadline_in_the_future_refuses_nothing():
    Deadline(30).check()
    assert not Deadline(30).passed


def test_a_deadline_that_has_passed_refuses_with_the_sentence_given():
    late = Deadline(0)
    assert (late.passed, late.left) == (True, 0)
    with pytest.raises(Refusal, match="Too late") as refused:
        late.check("Too late.")
    assert refused.value.code is ErrorCode.DEADLINE


def test_without_a_sentence_the_limit_is_named():
    with pytest.raises(Refusal, match=r"took longer than its limit of 0\.5 seconds"):
        raise Deadline(0.5).refusal()


async def test_a_block_is_cancelled_at_the_deadline():
    with pytest.raises(Refusal, match="Too late"):
        async with Deadline(0.01).bound("Too late."):
            await asyncio.sleep(30)


async def test_a_block_that_is_in_time_goes_on():
    async with Deadline(30).bound():
        await asyncio.sleep(0)


async def test_a_grace_lets_a_block_end_by_itself():
    async with Deadline(0).bound(grace=30):
        await asyncio.sleep(0.01)


async def test_a_cancellation_by_another_is_not_taken_for_the_deadline():
    async def work() -> None:
        async with Deadline(30).bound():
            await asyncio.sleep(30)

    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
