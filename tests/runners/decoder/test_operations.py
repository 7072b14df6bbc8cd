"""What a layer computes between its products: PyTorch's operations, and the kernels for CPUs."""

from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from runners.decoder.operations import (
    CompiledOperations,
    Operations,
    choose_operations,
    rotary_of,
)
from tests.support.models.compiler import compile_anew, needs_compiler

CPU = torch.device("cpu")
EPSILON = 1e-6
TYPES = [
    pytest.param(torch.float32, 1e-5, id="float32"),
    pytest.param(torch.bfloat16, 1e-2, id="bfloat16"),
]
KINDS = ["pytorch", pytest.param("compiled", marks=needs_compiler)]
TOKENS = [1, 3, 150]
"""With 150, the kernels take several threads."""


def operations(kind: str, dtype: torch.dtype) -> Operations:
    if kind == "pytorch":
        return Operations()
    chosen = choose_operations(CPU, dtype, (64, 96), 64, nn.SiLU())
    assert isinstance(chosen, CompiledOperations)
    return chosen


def norm_of(weight: Tensor) -> SimpleNamespace:
    return SimpleNamespace(weight=weight, variance_epsilon=EPSILON)


def make_rotary(tokens: int, size: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """The library's cosines and sines, [1, tokens, head size]."""
    angles = (torch.arange(tokens)[:, None] * torch.logspace(0, -3, size // 2)).repeat(1, 2)[None]
    return angles.cos().to(dtype), angles.sin().to(dtype)


def rotate_half(states: Tensor) -> Tensor:
    low, high = states.chunk(2, -1)
    return torch.cat([-high, low], -1)


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


@pytest.mark.parametrize(("dtype", "off"), TYPES)
@pytest.mark.parametrize("size", [16, 64, 1536])
@pytest.mark.parametrize("tokens", TOKENS)
@pytest.mark.parametrize("kind", KINDS)
def test_the_norm_is_the_librarys(kind, tokens, size, dtype, off):
    rows = torch.randn(tokens, 2 * size)[:, :size].to(dtype) * 3
    weight = torch.randn(size).to(dtype)
    found = operations(kind, dtype).norm(rows, norm_of(weight))
    exact = rows.double()
    exact = exact / (exact.square().mean(-1, keepdim=True) + EPSILON).sqrt() * weight.double()
    assert found.dtype == dtype
    torch.testing.assert_close(found.double(), exact, rtol=off, atol=off)


@pytest.mark.parametrize(("dtype", "off"), TYPES)
@pytest.mark.parametrize("has_norms", [False, True])
@pytest.mark.parametrize(("heads", "others", "size"), [(3, 1, 32), (10, 2, 64), (6, 2, 128)])
@pytest.mark.parametrize("tokens", TOKENS)
@pytest.mark.parametrize("kind", KINDS)
def test_heads_are_turned_as_in_the_library_after_their_norms(
    kind, tokens, heads, others, size, has_norms, dtype, off
):
    states = torch.randn(tokens, heads + others, size).to(dtype)
    weights = torch.randn(heads, size).to(dtype) if has_norms else None
    cosines, sines = make_rotary(tokens, size, dtype)
    exact, last = states[:, :heads].double(), states[:, heads:].clone()
    if weights is not None:
        exact = F.rms_norm(exact, (size,), None, EPSILON) * weights.double()
    exact = exact * cosines[0, :, None].double() + rotate_half(exact) * sines[0, :, None].double()
    rotary = rotary_of(cosines, sines)
    found = operations(kind, dtype).turn(states, heads, weights, EPSILON, rotary)
    torch.testing.assert_close(found.double(), exact, rtol=2 * off, atol=4 * off)
    assert torch.equal(states[:, heads:], last)  # the values, which are not turned


@pytest.mark.parametrize(("dtype", "off"), TYPES)
@pytest.mark.parametrize("size", [16, 96, 1104])
@pytest.mark.parametrize("tokens", TOKENS)
@pytest.mark.parametrize("kind", KINDS)
def test_gates_are_those_of_the_library(kind, tokens, size, dtype, off):
    both = torch.randn(tokens, 2 * size).to(dtype) * 6
    found = operations(kind, dtype).gate(both.clone(), nn.SiLU())
    gates, ups = both.double().chunk(2, -1)
    torch.testing.assert_close(found.double(), F.silu(gates) * ups, rtol=off, atol=off)


@pytest.mark.parametrize("kind", KINDS)
def test_gates_far_from_0_are_exact(kind):
    gates = torch.tensor([-1e38, -1e4, -200.0, -89.0, -87.5, -0.0, 0.0, 1e-30, 87.0, 1e4, 1e38])
    both = torch.cat([F.pad(gates, (0, 5)), torch.ones(16)])[None]
    found = operations(kind, torch.float32).gate(both.clone(), nn.SiLU())
    exact = F.silu(both[:, :16].double()).float()
    torch.testing.assert_close(found, exact, rtol=1e-5, atol=1e-30)


@pytest.mark.parametrize(("dtype", "off"), TYPES)
@pytest.mark.parametrize("wrong", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_no_number_reaches_its_own_token_and_no_other(kind, wrong, dtype, off):
    compute = operations(kind, dtype)
    rotary = rotary_of(*make_rotary(150, 64, dtype))
    weight = torch.ones(64, dtype=dtype)
    weights = torch.ones(3, 64, dtype=dtype)

    def results(states: Tensor) -> list[Tensor]:
        return [
            compute.norm(states[:, 0], norm_of(weight)),
            compute.turn(states.clone(), 3, None, 0.0, rotary).flatten(1),
            compute.turn(states.clone(), 3, weights, EPSILON, rotary).flatten(1),
            compute.gate(states.flatten(1).clone(), nn.SiLU()),
        ]

    states = torch.randn(150, 4, 64).to(dtype)
    sound = results(states)
    states[70, 0, 37] = wrong
    others = torch.arange(150) != 70
    for before, found in zip(sound, results(states), strict=True):
        assert not found[70].isfinite().all()
        assert torch.equal(found[others], before[others])


@needs_compiler
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_kernels_are_chosen_on_a_cpu(dtype):
    chosen = choose_operations(CPU, dtype, (1024, 2816), 64, nn.SiLU())
    assert type(chosen) is CompiledOperations


@pytest.mark.parametrize(
    "changes",
    [
        {"dtype": torch.float16},
        {"sizes": (72, 96)},
        {"sizes": (64, 100)},
        {"head_size": 16},
        {"head_size": 80},
        {"activation": nn.GELU()},
        {"activation": nn.ReLU()},
        {"device": torch.device("cuda")},
        {"device": torch.device("mps")},
    ],
    ids=str,
)
def test_pytorchs_operations_are_chosen_otherwise(changes):
    arguments = {
        "device": CPU,
        "dtype": torch.float32,
        "sizes": (64, 96),
        "head_size": 64,
        "activation": nn.SiLU(),
    }
    assert type(choose_operations(**arguments | changes)) is Operations


def test_pytorchs_operations_are_chosen_without_a_compiler(monkeypatch):
    compile_anew(monkeypatch, "no-such-compiler")
    chosen = choose_operations(CPU, torch.float32, (64, 96), 64, nn.SiLU())
    assert type(chosen) is Operations
