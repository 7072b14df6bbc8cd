"""What would slow a GPU down, seen without one: the operations of a step on fake CUDA tensors.

A fake tensor has a shape and a device but no numbers: an operation that needs a number, for which
the CPU would have to wait for the GPU, raises.
"""

from collections import Counter
from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from runners.decoder.attention import varlen
from runners.decoder.attention.choice import choose_attention
from runners.decoder.attention.gathered import GatheredAttention
from runners.decoder.attention.varlen import VarlenAttention
from runners.decoder.decoder import Decoder, last_tokens
from runners.decoder.graphs import GraphedStep
from runners.decoder.part import Part
from tests.support.models.decoders import library_model

CUDA = torch.device("cuda:0")
ROWS = [Part([1, 2], 300, 1), Part([3], 9, 1), Part([4], 0, 1)]
LAYERS = 3
LAUNCHES_A_LAYER = {"qwen2": 14, "qwen3": 16}
"""Products 4, norms 2 (and 2 for the heads), rotation 3, cache 2, attention 1, gate 2."""
WITHOUT_A_KERNEL = {
    "prim.device",
    "aten.select",
    "aten.flatten",
    "aten.slice",
    "aten.split_with_sizes",
    "aten.unsqueeze",
    "aten.unflatten",
    "aten.chunk",
    "aten.expand",
    "aten.view",
    "aten.reshape",
    "aten.transpose",
    "aten.permute",
    "aten.detach",
    "aten.alias",
    "aten.t",
}
"""Operations that only look at a tensor in another way."""


@pytest.fixture(autouse=True)
def hopper(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))


class Operations(TorchDispatchMode):
    """Counts the operations that start a kernel."""

    def __init__(self) -> None:
        super().__init__()
        self.count: Counter[str] = Counter()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = ".".join(str(function).split(".")[:2])
        if name not in WITHOUT_A_KERNEL:
            self.count[name] += 1
        return function(*args, **(kwargs or {}))


def on_a_gpu(kind: str, dtype: torch.dtype, run: Callable[[Decoder], None], layers: int) -> None:
    """Calls `run` with a decoder whose tensors claim to be on a GPU."""
    usual = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with FakeTensorMode(allow_non_fake_inputs=True):
            with torch.device(CUDA):
                decoder = Decoder(library_model(kind, head_dim=64, num_hidden_layers=layers))
            torch.set_default_dtype(usual)
            with torch.inference_mode():
                run(decoder)
    finally:
        torch.set_default_dtype(usual)


def operations_of_a_step(kind: str, layers: int) -> Counter[str]:
    counts: list[Counter[str]] = []

    def capture(run: Callable[[], Tensor]) -> tuple[Callable[[], object], Tensor]:
        with Operations() as operations:
            logits = run()
        counts.append(operations.count)
        return run, logits

    def step(decoder: Decoder) -> None:
        pool = decoder.make_pool(256)
        pool.resize(8, [])
        GraphedStep(decoder, pool, CUDA, capture)([5, 6, 7], [301, 10, 1], ROWS)

    on_a_gpu(kind, torch.bfloat16, step, layers)
    return counts[0]


@pytest.mark.parametrize("kind", LAUNCHES_A_LAYER)
def test_a_layer_of_a_step_starts_few_kernels(kind):
    few, many = (operations_of_a_step(kind, layers) for layers in (2, 5))
    a_layer = (many.total() - few.total()) / 3
    assert a_layer <= LAUNCHES_A_LAYER[kind], many - few


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_a_step_waits_for_the_device_nowhere(dtype):
    run_a_step(dtype, ROWS)


def run_a_step(dtype: torch.dtype, rows: Sequence[Part]) -> None:
    numbers = list(range(len(rows)))

    def step(decoder: Decoder) -> None:
        pool = decoder.make_pool(256)
        pool.resize(8, [])
        graphed = GraphedStep(decoder, pool, CUDA, lambda run: (run, run()))
        logits = graphed(numbers, numbers, rows)
        assert (logits.shape, logits.device) == ((len(rows), 256), CUDA)

    on_a_gpu("qwen3", dtype, step, LAYERS)


@pytest.mark.parametrize("blocks", [[3], [6, 2]])
def test_a_step_of_an_older_pytorch_waits_for_the_device_nowhere(monkeypatch, blocks):
    monkeypatch.setattr(varlen, "takes_blocks", lambda: False)
    run_a_step(torch.bfloat16, [ROWS[0], Part(blocks, 5, 1)])


@pytest.mark.parametrize("attention", [VarlenAttention, GatheredAttention])
def test_a_prefill_waits_for_the_device_nowhere(attention):
    def prefill(decoder: Decoder) -> None:
        pool = decoder.make_pool(256)
        pool.resize(8, [])
        parts = [Part([1, 2], 0, 300), Part([3], 5, 40)]
        hidden = torch.zeros(340, 64, device=CUDA)
        positions = torch.zeros(1, 340, dtype=torch.long, device=CUDA)
        wanted = last_tokens([part.count for part in parts])
        plan = attention(pool, parts, decoder.scale)
        assert decoder(hidden.to(torch.bfloat16), positions, plan, wanted).shape == (2, 256)

    on_a_gpu("qwen3", torch.bfloat16, prefill, LAYERS)


def test_these_tests_would_see_a_wait():
    def wait(decoder: Decoder) -> None:
        decoder.embedding.weight.sum().item()

    with pytest.raises(DataDependentOutputException):
        on_a_gpu("qwen2", torch.bfloat16, wait, LAYERS)


def test_a_gpu_that_is_older_than_flash_attention_attends_without_it(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
    assert choose_attention(CUDA, torch.float16) is GatheredAttention
    run_a_step(torch.float16, ROWS)


def test_a_gpu_attends_over_blocks_where_flash_attention_takes_the_type():
    assert choose_attention(CUDA, torch.bfloat16) is VarlenAttention
    assert choose_attention(CUDA, torch.float32) is GatheredAttention
