"""What a layer computes between its products and its attention."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from runners.decoder.cpu_kernels.compiling import Kernel, find_kernel

Rotary = tuple[Tensor, Tensor]
"""Cosines and signed sines of the tokens' angles, [tokens, 1, head size]; see `turn`."""

_LANES = 16
"""The kernels' sizes are multiples of this."""


def rotary_of(cosines: Tensor, sines: Tensor) -> Rotary:
    """Made from the library's cosines and sines, [1, tokens, head size]."""
    half = sines.shape[-1] // 2
    signed = torch.cat([-sines[..., :half], sines[..., half:]], -1)
    return cosines.contiguous()[0, :, None], signed[0, :, None]


class Operations:
    """PyTorch's operations, as few as there are: each is a kernel of its own on a GPU."""

    def norm(self, rows: Tensor, norm: Any) -> Tensor:
        """Root-mean-square norm (Zhang and Sennrich, 2019). rows: [tokens, size].

        norm: the library's, whose own forward takes eight operations.
        """
        return F.rms_norm(rows, norm.weight.shape, norm.weight, norm.variance_epsilon)

    def turn(
        self, states: Tensor, heads: int, weights: Tensor | None, epsilon: float, rotary: Rotary
    ) -> Tensor:
        """Rotary positions (Su et al., "RoFormer", 2021) of the first heads, after their norms.

        states: [tokens, more heads, head size]; may be overwritten. weights: of the norms, [heads,
        head size]; None for no norm. Returns [tokens, heads, head size].

        Where the library computes `states * cos + rotate_half(states) * sin`, the sign of the first
        half is in the sines here, and turning half of the head size is `roll`.
        """
        own = states[:, :heads]
        if weights is not None:
            # All heads in one piece: the norm of a part of the heads would copy them first.
            own = F.rms_norm(states, states.shape[-1:], None, epsilon)[:, :heads] * weights
        cosines, sines = rotary
        return torch.addcmul(own * cosines, own.roll(own.shape[-1] // 2, -1), sines)

    def gate(self, gates_and_ups: Tensor, activation: nn.Module) -> Tensor:
        """The activation of the first half, times the second. [tokens, 2 size] to [tokens, size]"""
        gates, ups = gates_and_ups.chunk(2, -1)
        result: Tensor = activation(gates).mul_(ups)
        return result


class CompiledOperations(Operations):
    """This project's kernels for CPUs: one call instead of two to eight operations.

    In bfloat16 they round once, at the end.
    """

    def __init__(self, norm: Kernel, turn: Kernel, gate: Kernel) -> None:
        self._norm, self._turn, self._gate = norm, turn, gate

    def norm(self, rows: Tensor, norm: Any) -> Tensor:
        rows = rows.contiguous()
        result = torch.empty_like(rows)
        self._norm(
            rows.data_ptr(),
            norm.weight.data_ptr(),
            result.data_ptr(),
            *rows.shape,
            norm.variance_epsilon,
        )
        return result

    def turn(
        self, states: Tensor, heads: int, weights: Tensor | None, epsilon: float, rotary: Rotary
    ) -> Tensor:
        cosines, sines = rotary
        tokens, _, size = states.shape
        self._turn(
            states.data_ptr(),
            None if weights is None else weights.data_ptr(),
            cosines.data_ptr(),
            sines.data_ptr(),
            tokens,
            states.stride(0),
            heads,
            size,
            epsilon,
        )
        return states[:, :heads]

    def gate(self, gates_and_ups: Tensor, activation: nn.Module) -> Tensor:
        gates_and_ups = gates_and_ups.contiguous()
        tokens, size = gates_and_ups.shape[0], gates_and_ups.shape[1] // 2
        result = gates_and_ups.new_empty(tokens, size)
        self._gate(gates_and_ups.data_ptr(), result.data_ptr(), tokens, size)
        return result


def choose_operations(
    device: torch.device,
    dtype: torch.dtype,
    sizes: tuple[int, int],
    head_size: int,
    activation: nn.Module,
) -> Operations:
    """The fastest operations for a layer. sizes: of its hidden states, and between gate and down.

    On a CPU the kernels are compiled here, while the model is loaded.
    """
    fits = all(size % _LANES == 0 for size in (*sizes, head_size // 2))
    if device.type == "cpu" and fits and _is_silu(activation):
        kernels = [find_kernel(name, dtype) for name in ("norm", "turn", "gate")]
        if compiled := [kernel for kernel in kernels if kernel]:
            return CompiledOperations(*compiled)
    return Operations()


def _is_silu(activation: nn.Module) -> bool:
    probe = torch.linspace(-4, 4, 9)
    return torch.equal(activation(probe), F.silu(probe))
