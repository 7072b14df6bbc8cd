import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path

import psutil
import pytest

from common.failures import ErrorCode, Refusal
from runners.process_pool import worker
from runners.process_pool.pool import ProcessPool
from runners.process_pool.worker import JobFailed, WorkerDied
from tests.support import jobs

Pool = ProcessPool[tuple[str, str], object]
PATIENCE = 20


@pytest.fixture
async def pool(tmp_path: Path) -> AsyncIterator[Pool]:
    pool: Pool = ProcessPool(partial(jobs.load, tmp_path), 2)
    yield pool
    await pool.close()
    assert pool.workers == []


async def until(true: Callable[[], object]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not true():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def begin(pool: Pool, folder: Path, kind: str, name: str) -> "asyncio.Task[object]":
    """A job that has begun."""
    job = asyncio.create_task(pool.run((kind, name)))
    await until((folder / name).exists)
    return job


def go_on(folder: Path) -> None:
    (folder / "go on").touch()


def loads(folder: Path) -> int:
    return len(list(folder.glob("loaded-*")))


async def test_a_process_starts_with_a_job_and_does_the_next_one_too(pool: Pool) -> None:
    assert pool.workers == []
    assert await pool.run(("tell", "a")) == await pool.run(("tell", "b")) != os.getpid()
    (process,) = pool.workers
    assert process.is_ready
    assert process.memory_bytes > 2**20


async def test_each_process_does_one_job_and_the_rest_wait(pool: Pool, tmp_path: Path) -> None:
    both = [await begin(pool, tmp_path, "wait", name) for name in "ab"]
    rest = [asyncio.create_task(pool.run(("tell", name))) for name in "cd"]
    await asyncio.sleep(0.2)
    assert not (tmp_path / "c").exists()
    assert not (tmp_path / "d").exists()
    go_on(tmp_path)
    first, second, *_ = await asyncio.gather(*both, *rest)
    assert first != second
    assert loads(tmp_path) == 2


async def test_jobs_that_wait_are_done_in_their_order(tmp_path: Path) -> None:
    pool: Pool = ProcessPool(partial(jobs.load, tmp_path), 1)
    one = await begin(pool, tmp_path, "wait", "a")
    rest = [asyncio.create_task(pool.run(("tell", name))) for name in "bcdef"]
    await asyncio.sleep(0.05)
    go_on(tmp_path)
    await asyncio.gather(one, *rest)
    begun = [(tmp_path / name).stat().st_mtime_ns for name in "abcdef"]
    assert begun == sorted(begun)
    await pool.close()


async def test_a_job_whose_process_dies_is_done_in_another_one(pool: Pool, tmp_path: Path) -> None:
    waiting = await begin(pool, tmp_path, "wait", "other")
    assert await pool.run(("crash once", "a"))
    assert not waiting.done()
    go_on(tmp_path)
    await waiting
    assert loads(tmp_path) == 3


async def test_a_job_that_ends_two_processes_gets_no_third(pool: Pool, tmp_path: Path) -> None:
    with pytest.raises(WorkerDied, match=str(-signal.SIGSEGV)):
        await pool.run(("crash", "a"))
    assert loads(tmp_path) == 2
    assert pool.workers == []
    assert await pool.run(("tell", "b"))


async def test_a_process_that_died_while_it_was_free_costs_nothing(pool: Pool) -> None:
    pid = await pool.run(("tell", "a"))
    assert isinstance(pid, int)
    os.kill(pid, signal.SIGKILL)
    (process,) = pool.workers
    await until(lambda: not process.is_alive)
    assert await pool.run(("crash once", "b"))  # it still has its second try


async def test_what_a_job_raises_is_raised_and_its_process_goes_on(pool: Pool) -> None:
    pid = await pool.run(("print", "a"))
    with pytest.raises(JobFailed, match="ZeroDivisionError: by nought"):
        await pool.run(("raise", "b"))
    with pytest.raises(Refusal) as refusal:
        await pool.run(("refuse", "c"))
    assert (refusal.value.code, refusal.value.failure.retry_after) == (ErrorCode.BAD_IMAGE, 3)
    assert await pool.run(("tell", "d")) == pid


async def test_a_load_that_cannot_be_done_is_told() -> None:
    pool: Pool = ProcessPool(jobs.refuse, 2)
    with pytest.raises(Refusal, match="missing"):
        await pool.run(("tell", "a"))
    with pytest.raises(Refusal, match="missing"):
        await pool.start_all()
    faulty: Pool = ProcessPool(jobs.fail, 1)
    with pytest.raises(JobFailed, match="by nought"):
        await faulty.run(("tell", "a"))
    await pool.close()
    assert pool.workers == faulty.workers == []


async def test_a_cancelled_job_stops_and_its_process_does_the_next_one(
    pool: Pool, tmp_path: Path
) -> None:
    job = await begin(pool, tmp_path, "wait", "a")
    job.cancel()
    with pytest.raises(asyncio.CancelledError):
        await job
    pids = {await pool.run(("tell", name)) for name in "bcd"}
    assert pids <= {worker.pid for worker in pool.workers}
    both = [await begin(pool, tmp_path, "wait", name) for name in "ef"]
    go_on(tmp_path)
    assert int((tmp_path / "a").read_text()) in await asyncio.gather(*both)


async def test_a_job_cancelled_while_it_waits_never_begins(pool: Pool, tmp_path: Path) -> None:
    both = [await begin(pool, tmp_path, "wait", name) for name in "ab"]
    waiting = asyncio.create_task(pool.run(("tell", "c")))
    await asyncio.sleep(0)
    waiting.cancel()
    go_on(tmp_path)
    await asyncio.gather(*both)
    assert await pool.run(("tell", "d"))
    assert not (tmp_path / "c").exists()


async def test_a_cancelled_job_that_hangs_is_killed_and_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "STOP_SECONDS", 0.2)
    pool: Pool = ProcessPool(partial(jobs.load, tmp_path), 1)
    job = await begin(pool, tmp_path, "hang", "a")
    hung = int((tmp_path / "a").read_text())
    job.cancel()
    assert await pool.run(("tell", "b")) != hung
    assert not psutil.pid_exists(hung)
    assert loads(tmp_path) == 2
    await pool.close()


async def test_all_processes_start_at_once(pool: Pool, tmp_path: Path) -> None:
    await pool.start_all()
    assert len(pool.workers) == 2
    await pool.start_all()
    assert loads(tmp_path) == 2


async def test_retiring_ends_free_processes_at_once_and_busy_ones_after_their_job(
    pool: Pool, tmp_path: Path
) -> None:
    assert await pool.retire(PATIENCE) is False
    await pool.start_all()
    job = await begin(pool, tmp_path, "wait", "a")
    assert await pool.retire(0.05) is True
    assert [process.pid for process in pool.workers] == [int((tmp_path / "a").read_text())]
    go_on(tmp_path)
    assert await pool.retire(PATIENCE) is True
    assert await job
    assert pool.workers == []


async def test_a_job_that_waits_while_processes_retire_gets_a_new_one(
    pool: Pool, tmp_path: Path
) -> None:
    both = [await begin(pool, tmp_path, "wait", name) for name in "ab"]
    waiting = asyncio.create_task(pool.run(("tell", "c")))
    retiring = asyncio.create_task(pool.retire(PATIENCE))
    await asyncio.sleep(0)
    go_on(tmp_path)
    old = set(await asyncio.gather(*both))
    assert await waiting not in old
    assert await retiring


async def test_closing_ends_a_job(tmp_path: Path) -> None:
    pool: Pool = ProcessPool(partial(jobs.load, tmp_path), 2)
    job = await begin(pool, tmp_path, "hang", "a")
    await pool.close()
    with pytest.raises(WorkerDied):
        await job
    assert loads(tmp_path) == 1


PARENT = """
import asyncio, sys
from functools import partial
from pathlib import Path
from runners.process_pool.pool import ProcessPool
from tests.support import jobs
pool = ProcessPool(partial(jobs.load, Path(sys.argv[1])), 2)
async def main():
    await pool.run(("tell", "idle"))
    await pool.run((sys.argv[2], "a"))
asyncio.run(main())
"""


@pytest.mark.parametrize("kind", ["wait", "hang"])
async def test_a_process_does_not_outlive_a_parent_that_is_killed(
    kind: str, tmp_path: Path
) -> None:
    parent = await asyncio.create_subprocess_exec(sys.executable, "-c", PARENT, str(tmp_path), kind)
    await until((tmp_path / "a").exists)
    await asyncio.sleep(0.1)
    child = psutil.Process(int((tmp_path / "a").read_text()))
    parent.kill()
    await parent.wait()
    ended = time.monotonic()
    await until(lambda: not child.is_running())
    assert time.monotonic() - ended < 2


async def test_a_process_outlives_the_signals_that_stop_a_server(
    pool: Pool, tmp_path: Path
) -> None:
    job = await begin(pool, tmp_path, "wait", "a")
    for stop_signal in (signal.SIGTERM, signal.SIGINT):
        os.kill(int((tmp_path / "a").read_text()), stop_signal)
    go_on(tmp_path)
    assert str(await job) == (tmp_path / "a").read_text()
