import pytest
import torch

from runners import gpu_memory


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two GPUs: what the driver calls free, and what the allocator has reserved and allocated."""
    free, reserved, allocated = [100, 30], [40, 0], [15, 0]
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda number: (free[number], 200))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda number: reserved[number])
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda number: allocated[number])


@pytest.mark.usefixtures("gpus")
@pytest.mark.parametrize(("numbers", "free"), [([0], 125), ([1], 30), ([0, 1], 60)])
def test_a_model_spread_evenly_may_take_what_the_fullest_gpu_has_free(
    numbers: list[int], free: int
) -> None:
    assert gpu_memory.free_on_gpus(numbers) == free


@pytest.mark.usefixtures("gpus")
def test_what_is_allocated_is_summed_up_over_all_gpus() -> None:
    assert gpu_memory.allocated_on_gpus() == 15
