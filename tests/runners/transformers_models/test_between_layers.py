import pytest
import torch
from torch import nn

from runners.transformers_models.between_layers import attend_in_slices, called_between

CPU = torch.device("cpu")


class Noting(nn.Module):
    def __init__(self, name: str, noted: list[str]) -> None:
        super().__init__()
        self.name = name
        self.noted = noted

    def forward(self, number: int) -> int:
        self.noted.append(self.name)
        return number + 1


@pytest.fixture
def noted() -> list[str]:
    return []


@pytest.fixture
def layers(noted) -> nn.ModuleList:
    return nn.ModuleList([Noting("first", noted), Noting("second", noted)])


def run(layers: nn.ModuleList) -> int:
    number = 0
    for layer in layers:
        number = layer(number)
    return number


def test_the_function_is_called_before_each_layer_and_changes_nothing(layers, noted):
    with called_between(layers, lambda: noted.append("between") or 7, CPU):
        assert run(layers) == 2
    assert noted == ["between", "first", "between", "second"]


def test_it_is_not_called_afterwards_even_if_a_layer_failed(layers, noted):
    with pytest.raises(ZeroDivisionError), called_between(layers, lambda: 1 / 0, CPU):
        run(layers)
    run(layers)
    assert noted == ["first", "second"]


def test_without_a_function_nothing_is_called(layers, noted):
    with called_between(layers, None, CPU):
        run(layers)
    assert noted == ["first", "second"]


def test_on_a_gpu_all_but_two_layers_have_run_before_it_is_called(layers, noted, monkeypatch):
    class Event:
        """Stands in for a CUDA event."""

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
    three = nn.ModuleList([*layers, Noting("third", noted)])
    with called_between(three, lambda: noted.append("between"), torch.device("cuda")):
        run(three)
    assert noted[-4:] == ["started 2", "waited for 0", "between", "third"]


@pytest.mark.parametrize("tokens", [40, 1300])
def test_attention_in_slices_gives_what_it_gives_at_once_and_calls_after_each(layers, tokens):
    torch.manual_seed(0)
    states = torch.randn(3, 1, 2, tokens, 8)
    whole = attend_in_slices(*states, 0.3)
    called = []
    with called_between(layers, lambda: called.append(1), CPU):
        sliced = attend_in_slices(*states, 0.3)
    torch.testing.assert_close(sliced, whole, rtol=1e-5, atol=1e-5)
    assert len(called) == (3 if tokens == 1300 else 0)
    assert torch.equal(attend_in_slices(*states, 0.3), whole)
    assert len(called) == (3 if tokens == 1300 else 0)
