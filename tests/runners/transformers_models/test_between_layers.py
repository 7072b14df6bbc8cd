import pytest
import torch
from torch import Tensor, nn

from runners.transformers_models.between_layers import called_between

CPU = torch.device("cpu")
CUDA = torch.device("cuda")
ONE = torch.ones(1)


class Noting(nn.Module):
    """A layer of one operation."""

    def __init__(self, name: str, noted: list[str]) -> None:
        super().__init__()
        self.name = name
        self.noted = noted

    def forward(self, number: Tensor) -> Tensor:
        self.noted.append(self.name)
        return number + 1


@pytest.fixture
def noted() -> list[str]:
    return []


@pytest.fixture
def layers(noted) -> nn.ModuleList:
    return nn.ModuleList([Noting("first", noted), Noting("second", noted)])


@pytest.fixture
def events(noted, monkeypatch) -> None:
    """CUDA events that note what is done with them."""

    class Event:
        count = 0

        def __init__(self) -> None:
            self.number = Event.count
            Event.count += 1

        def record(self, stream: object) -> None:
            noted.append(f"started {self.number}")

        def synchronize(self) -> None:
            noted.append(f"waited for {self.number}")

    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: None)


def run(layers: nn.ModuleList) -> Tensor:
    number = ONE
    for layer in layers:
        number = layer(number)
    return number


def test_on_a_cpu_the_function_is_called_after_each_operation_and_changes_nothing(layers, noted):
    with called_between(layers, lambda: noted.append("between") or 7, CPU):
        assert run(layers) == 3
    assert noted[:4] == ["first", "between", "second", "between"]


@pytest.mark.parametrize("device", [CPU, CUDA])
def test_it_is_not_called_afterwards_even_if_it_failed(layers, noted, events, device):
    with pytest.raises(ZeroDivisionError), called_between(layers, lambda: 1 / 0, device):
        run(layers)
    noted.clear()
    run(layers)
    assert noted == ["first", "second"]


@pytest.mark.parametrize("device", [CPU, CUDA])
def test_without_a_function_nothing_is_called(layers, noted, device):
    with called_between(layers, None, device):
        run(layers)
    assert noted == ["first", "second"]


def test_on_a_gpu_all_but_two_layers_have_run_before_it_is_called(layers, noted, events):
    three = nn.ModuleList([*layers, Noting("third", noted)])
    with called_between(three, lambda: noted.append("between"), CUDA):
        run(three)
    assert noted[:3] == ["started 0", "between", "first"]
    assert noted[-4:] == ["started 2", "waited for 0", "between", "third"]
