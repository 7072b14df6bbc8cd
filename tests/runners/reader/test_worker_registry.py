import multiprocessing
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from pathlib import Path

import pytest

from runners.reader.worker_registry import Worker, WorkerRegistry

WORKER = Worker(loading=False, memory_bytes=7, rows=1, queued=2, last_end=3.0)
_spawn = multiprocessing.get_context("spawn")


def worker(folder: Path, pipe: Connection) -> None:
    """A process that has the model loaded, until it is told to look, or to leave."""
    registry = WorkerRegistry(folder)
    registry.join(WORKER)
    pipe.send("joined")
    while (order := pipe.recv()) != "leave":
        assert order == "look"
        pipe.send(registry.asked_to_unload)
    registry.leave()
    pipe.send("left")


@contextmanager
def process(folder: Path) -> Iterator[tuple[SpawnProcess, Connection]]:
    ours, theirs = _spawn.Pipe()
    child = _spawn.Process(target=worker, args=(folder, theirs))
    child.start()
    theirs.close()
    try:
        assert ours.recv() == "joined"
        yield child, ours
    finally:
        child.kill()
        child.join()


def test_one_process_sees_what_another_reports(tmp_path: Path) -> None:
    here = WorkerRegistry(tmp_path)
    assert here.workers() == []
    with process(tmp_path) as (_, pipe):
        assert here.workers() == [WORKER]
        pipe.send("leave")
        assert pipe.recv() == "left"
        assert here.workers() == []


def test_a_process_killed_with_9_is_no_longer_counted(tmp_path: Path) -> None:
    here = WorkerRegistry(tmp_path)
    with process(tmp_path) as (child, _):
        child.kill()
        child.join()
        assert here.workers() == []
        assert here.still_loaded() == 0


def test_all_workers_are_asked_to_unload_and_later_ones_are_not(tmp_path: Path) -> None:
    here = WorkerRegistry(tmp_path)
    here.join(WORKER)
    with process(tmp_path) as (_, pipe):
        here.ask_to_unload()
        pipe.send("look")
        assert pipe.recv() is True
        assert here.asked_to_unload
        assert here.still_loaded() == 2
        here.leave()
        assert here.still_loaded() == 1
        here.join(WORKER)
        assert not here.asked_to_unload
        assert here.still_loaded() == 1
        assert len(here.workers()) == 2


def test_a_report_replaces_the_one_before(tmp_path: Path) -> None:
    here = WorkerRegistry(tmp_path)
    here.report(WORKER)
    assert here.workers() == []
    here.join(WORKER)
    busy = Worker(loading=False, memory_bytes=7, rows=0, queued=0, last_end=4.0)
    here.report(busy)
    assert here.workers() == [busy]


def test_leaving_leaves_no_file_but_the_generation(tmp_path: Path) -> None:
    here = WorkerRegistry(tmp_path)
    here.join(WORKER)
    here.ask_to_unload()
    here.leave()
    assert [path.name for path in tmp_path.iterdir()] == ["generation"]


@pytest.mark.parametrize("asked", [False, True])
def test_a_folder_that_is_gone_is_made_anew(tmp_path: Path, asked: bool) -> None:
    folder = tmp_path / "state"
    here = WorkerRegistry(folder)
    here.join(WORKER)
    if asked:
        here.ask_to_unload()
    shutil.rmtree(folder)
    assert here.workers() == []
    assert here.still_loaded() == 0
    assert not here.asked_to_unload
    here.report(WORKER)
    assert here.workers() == [WORKER]
    shutil.rmtree(folder)
    here.ask_to_unload()
    assert here.asked_to_unload
    here.leave()
    assert here.workers() == []
    shutil.rmtree(folder)
    here.join(WORKER)
    assert here.workers() == [WORKER]
