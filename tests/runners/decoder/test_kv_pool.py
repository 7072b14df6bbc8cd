import sys

import psutil
import pytest
import torch

from runners.decoder.kv_pool import KvPool, KvShape

CPU = torch.device("cpu")
SHAPE = KvShape(heads=2, head_size=3, dtype=torch.float32)


@pytest.fixture
def pool() -> KvPool:
    pool = KvPool(SHAPE, [CPU, CPU], block_size=4)
    assert pool.resize(5, [])
    for number in range(5):
        for tensor in (*pool.keys, *pool.values):
            tensor[number] = number
    return pool


def numbers(pool: KvPool) -> list[list[float]]:
    """What each tensor holds, a number a block."""
    return [tensor[:, 0, 0, 0].tolist() for tensor in (*pool.keys, *pool.values)]


def test_an_empty_pool_holds_no_memory():
    pool = KvPool(SHAPE, [CPU], block_size=4)
    assert (pool.count, pool.held_bytes) == (0, 0)


def test_its_bytes_are_those_of_its_tensors(pool):
    assert pool.held_bytes == sum(tensor.nbytes for tensor in (*pool.keys, *pool.values))


def test_a_pool_that_grows_keeps_its_blocks(pool):
    assert pool.resize(7, range(5))
    assert [held[:5] for held in numbers(pool)] == [[0, 1, 2, 3, 4]] * 4
    assert pool.count == 7


def test_a_pool_that_shrinks_puts_the_kept_blocks_first(pool):
    assert pool.resize(2, [4, 1])
    assert numbers(pool) == [[4, 1]] * 4


def test_a_block_is_copied_in_every_layer(pool):
    pool.copy(3, 1)
    assert numbers(pool) == [[0, 3, 2, 3, 4]] * 4


def test_the_generation_says_when_the_tensors_moved(pool):
    before = pool.generation
    pool.copy(0, 1)
    assert pool.generation == before
    pool.resize(3, [4, 2, 0])
    assert pool.generation != before


def test_a_pool_that_grows_on_a_cpu_need_not_move_at_once(pool):
    before, places = pool.generation, [tensor.data_ptr() for tensor in pool.keys]
    assert pool.resize(40, range(5))
    assert (pool.generation, [tensor.data_ptr() for tensor in pool.keys]) == (before, places)
    assert all(len(tensor) == 40 for tensor in (*pool.keys, *pool.values))
    assert pool.resize(41, range(40))
    assert pool.generation != before
    assert [held[:5] for held in numbers(pool)] == [[0, 1, 2, 3, 4]] * 4


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_blocks_that_were_never_written_to_take_no_memory():
    shape = KvShape(heads=2, head_size=64, dtype=torch.float32)
    pool = KvPool(shape, [CPU, CPU], block_size=256)
    before = psutil.Process().memory_info().rss
    assert pool.resize(200, [])
    assert pool.held_bytes > 50e6
    assert psutil.Process().memory_info().rss - before < 5e6


@pytest.mark.parametrize("calls", [0, 1, 3])
def test_where_memory_runs_out_while_it_grows_every_block_is_kept(pool, monkeypatch, calls):
    real = KvPool._blocks
    made = []

    def failing(self, count, device):
        made.append(count)
        if len(made) > calls:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(self, count, device)

    monkeypatch.setattr(KvPool, "_blocks", failing)
    assert not pool.resize(50, range(5))
    assert pool.count == 5
    assert [held[:5] for held in numbers(pool)] == [[0, 1, 2, 3, 4]] * 4
    monkeypatch.undo()
    assert pool.resize(50, range(5))
    assert [held[:5] for held in numbers(pool)] == [[0, 1, 2, 3, 4]] * 4
    assert pool.count == 50


@pytest.mark.parametrize("calls", [1, 3])
def test_layers_that_had_grown_shrink_again_where_memory_ran_out(pool, monkeypatch, calls):
    real = KvPool._blocks
    rooms = [len(whole) for wholes in pool._wholes for whole in wholes]
    before, made = pool.generation, []

    def failing(self, count, device):
        made.append(count)
        if count > rooms[0] and len(made) > calls:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(self, count, device)

    monkeypatch.setattr(KvPool, "_blocks", failing)
    assert not pool.resize(50, range(5))
    assert [len(whole) for wholes in pool._wholes for whole in wholes] == rooms
    assert [held[:5] for held in numbers(pool)] == [[0, 1, 2, 3, 4]] * 4
    assert pool.generation != before
    moved, places = pool.generation, [tensor.data_ptr() for tensor in pool.keys]
    assert pool.resize(rooms[0], range(5))
    assert (pool.generation, [tensor.data_ptr() for tensor in pool.keys]) == (moved, places)


def test_a_pool_that_shrinks_within_its_room_puts_the_kept_blocks_first_too():
    pool = KvPool(SHAPE, [CPU], block_size=4)
    assert pool.resize(5, [])
    assert pool.resize(40, range(5))
    for number in range(40):
        pool.keys[0][number] = number
    assert pool.resize(5, [4, 3, 2, 1, 0])
    assert pool.keys[0][:, 0, 0, 0].tolist() == [4, 3, 2, 1, 0]


def test_another_error_is_raised_as_it_is(pool, monkeypatch):
    def failing(self, count, device):
        raise ValueError("a fault")

    monkeypatch.setattr(KvPool, "_blocks", failing)
    with pytest.raises(ValueError, match="a fault"):
        pool.resize(50, range(5))
