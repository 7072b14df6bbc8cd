import multiprocessing
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from pathlib import Path

from runners.reader.worker_registry import Member, Siblings

MEMBER = Member(loading=False, memory_bytes=7, rows=1, queued=2, last_end=3.0)
_spawn = multiprocessing.get_context("spawn")


def member(folder: Path, pipe: Connection) -> None:
    """A process that has the model loaded, until it is told to look, or to leave."""
    siblings = Siblings(folder)
    siblings.join(MEMBER)
    pipe.send("joined")
    while (order := pipe.recv()) != "leave":
        assert order == "look"
        pipe.send(siblings.dismissed)
    siblings.leave()
    pipe.send("left")


@contextmanager
def process(folder: Path) -> Iterator[tuple[SpawnProcess, Connection]]:
    ours, theirs = _spawn.Pipe()
    child = _spawn.Process(target=member, args=(folder, theirs))
    child.start()
    theirs.close()
    try:
        assert ours.recv() == "joined"
        yield child, ours
    finally:
        child.kill()
        child.join()


def test_one_process_sees_what_another_reports(tmp_path: Path) -> None:
    here = Siblings(tmp_path)
    assert here.members() == []
    with process(tmp_path) as (_, pipe):
        assert here.members() == [MEMBER]
        pipe.send("leave")
        assert pipe.recv() == "left"
        assert here.members() == []


def test_a_process_killed_with_9_is_no_longer_counted(tmp_path: Path) -> None:
    here = Siblings(tmp_path)
    with process(tmp_path) as (child, _):
        child.kill()
        child.join()
        assert here.members() == []
        assert here.stragglers() == 0


def test_all_members_hear_a_dismissal_and_later_ones_do_not(tmp_path: Path) -> None:
    here = Siblings(tmp_path)
    here.join(MEMBER)
    with process(tmp_path) as (_, pipe):
        here.dismiss()
        pipe.send("look")
        assert pipe.recv() is True
        assert here.dismissed
        assert here.stragglers() == 2
        here.leave()
        assert here.stragglers() == 1
        here.join(MEMBER)
        assert not here.dismissed
        assert here.stragglers() == 1
        assert len(here.members()) == 2


def test_a_report_replaces_the_one_before(tmp_path: Path) -> None:
    here = Siblings(tmp_path)
    here.report(MEMBER)
    assert here.members() == []
    here.join(MEMBER)
    busy = Member(loading=False, memory_bytes=7, rows=0, queued=0, last_end=4.0)
    here.report(busy)
    assert here.members() == [busy]


def test_leaving_leaves_no_file_but_the_generation(tmp_path: Path) -> None:
    here = Siblings(tmp_path)
    here.join(MEMBER)
    here.dismiss()
    here.leave()
    assert [path.name for path in tmp_path.iterdir()] == ["generation"]
