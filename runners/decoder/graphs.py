"""A decode step on a GPU as CUDA graphs: all kernels of a step start with one call."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal
from weakref import WeakSet

import numpy as np
import torch
from torch import Tensor

from runners import torch_errors
from runners.decoder.attention import varlen
from runners.decoder.attention.gathered import attend_gathered
from runners.decoder.attention.interface import Attention
from runners.decoder.decoder import Decoder
from runners.decoder.eager import EagerStep
from runners.decoder.kv_pool import KvPool
from runners.decoder.part import Part, places

logger = logging.getLogger(__name__)

_BUCKETS = (1, 2, 4, 8, 16, 24, 32, 48, 64, 96, 128, 192, 256)
"""Rows of the graphs that are captured; a batch takes the next larger one. More are a multiple of
the last."""

Way = Literal["blocks", "extents", "gathered"]
"""How a step attends: over blocks wherever they lie; over rows of one piece each (PyTorch before
2.12); over copies (float32)."""
Run = Callable[[], Tensor]
Capture = Callable[[Run], tuple[Callable[[], object], Tensor]]
"""Takes a computation, returns a call that repeats it, and the tensor with its result."""


class GraphedStep:
    """Captures a graph for each bucket of rows, and replays it with other numbers.

    A graph reads and writes at fixed addresses. So the numbers of a step are copied into one tensor
    first, and when the KV cache has moved, or a row has more blocks than a graph's table has places
    for, the graphs are captured anew; a table stays as wide as the longest row made it. The rows
    that fill up a bucket repeat the first row: they write the same numbers to the same places.
    """

    def __init__(
        self, decoder: Decoder, pool: KvPool, device: torch.device, capture: Capture | None = None
    ) -> None:
        self._decoder = decoder
        self._pool = pool
        self._device = device
        self._capture = CudaCapture(device) if capture is None else capture
        self._eager: EagerStep | None = None
        """Runs the steps of a model that cannot be captured."""
        self._graphs: dict[tuple[int, Way], _Graph] = {}
        self._generation = -1
        self.captures = 0
        """How often a graph was captured, or could not be."""

    def __call__(
        self, tokens: Sequence[int], positions: Sequence[int], parts: Sequence[Part]
    ) -> Tensor:
        if self._eager is not None:
            return self._eager(tokens, positions, parts)
        if self._generation != self._pool.generation:
            self._graphs.clear()
            self._generation = self._pool.generation
        rows, width = bucket_of(len(parts)), max(len(part.blocks) for part in parts)
        way = self._way_of(parts)
        graph = self._graphs.get((rows, way))
        if graph is not None and graph.inputs.width >= width:
            inputs = graph.inputs
        else:
            if graph is not None:  # all at once: they share their memory
                self._graphs.clear()
            graph = None
            inputs = StepInputs(rows, 1 << (width - 1).bit_length(), self._device)
        inputs.fill(tokens, positions, parts, self._pool.block_size)
        if graph is None:
            self.captures += 1
            try:
                graph = self._graphs[rows, way] = self._captured(inputs, way)
            except Exception as error:
                if not torch_errors.is_capture_failure(error):
                    raise
                logger.exception("A step cannot be captured as a graph; it runs without, slower")
                self._eager = EagerStep(self._decoder, self._pool, self._device)
                return self._eager(tokens, positions, parts)
        graph.replay()
        return graph.logits[: len(parts)]

    def release(self) -> None:
        """Give back the memory of all graphs; they are captured anew when they are needed."""
        self._graphs.clear()

    def _way_of(self, parts: Sequence[Part]) -> Way:
        """The fastest attention for the parts; see `choose_attention`."""
        if not varlen.is_available(self._device, self._pool.shape.dtype):
            return "gathered"
        if varlen.takes_blocks():
            return "blocks"
        return "extents" if all(part.is_one_piece for part in parts) else "gathered"

    def _captured(self, inputs: "StepInputs", way: Way) -> "_Graph":
        """A graph of the step whose numbers are in the inputs, so that a run does no harm."""

        def run() -> Tensor:
            logits: Tensor = self._decoder(
                self._decoder.embedding(inputs.tokens),
                inputs.positions.expand(self._decoder.position_axes, -1),
                GraphAttention(self._pool, inputs, way, self._decoder.scale),
            )
            return logits

        replay, logits = self._capture(run)
        return _Graph(inputs, replay, logits)


@dataclass(frozen=True)
class _Graph:
    inputs: "StepInputs"
    replay: Callable[[], object]
    logits: Tensor


class StepInputs:
    """The numbers of a step of a fixed number of rows, on the device, at a fixed address."""

    def __init__(self, rows: int, width: int, device: torch.device) -> None:
        """width: blocks of the longest row."""
        self.rows = rows
        self.width = width
        # NumPy writes a few numbers with less overhead than PyTorch.
        self._numbers = np.zeros((rows, 4 + width), dtype=np.int32)
        self._device = torch.zeros(rows, 4 + width, dtype=torch.int32, device=device)

    @property
    def tokens(self) -> Tensor:
        return self._device[:, 0]

    @property
    def positions(self) -> Tensor:
        return self._device[:, 1]

    @property
    def places(self) -> Tensor:
        """Where each row's keys and values go, in columns of the pool."""
        return self._device[:, 2].long()

    @property
    def lengths(self) -> Tensor:
        return self._device[:, 3]

    @property
    def table(self) -> Tensor:
        return self._device[:, 4:]

    def fill(
        self,
        tokens: Sequence[int],
        positions: Sequence[int],
        parts: Sequence[Part],
        block_size: int,
    ) -> None:
        """Copy the numbers of a step to the device. The step before must have ended."""
        count, numbers = len(parts), self._numbers
        numbers[:count, 0] = tokens
        numbers[:count, 1] = positions
        numbers[:count, 2] = places(parts, block_size)
        numbers[:count, 3] = [part.end for part in parts]
        for row, part in enumerate(parts):
            numbers[row, 4 : 4 + len(part.blocks)] = part.blocks
        numbers[count:] = numbers[0]
        self._device.copy_(torch.from_numpy(self._numbers), non_blocking=True)


class GraphAttention(Attention):
    """Attention whose shapes depend on the bucket only."""

    def __init__(self, pool: KvPool, inputs: StepInputs, way: Way, scale: float) -> None:
        self.pool = pool
        self.scale = scale
        self._way = way
        self._written = inputs.places
        self._table = inputs.table
        self._lengths = inputs.lengths.contiguous()
        self._longest = inputs.width * pool.block_size
        zero = self._lengths.new_zeros(1)
        self._starts = torch.arange(inputs.rows + 1, dtype=torch.int32, device=zero.device)
        if way == "blocks":
            self._ends = torch.cat([zero, self._lengths.cumsum(0, dtype=torch.int32)])
        elif way == "extents":
            self._extents = torch.cat([self._table[:, 0] * pool.block_size, zero])

    def places_on(self, device: torch.device) -> Tensor:
        return self._written

    def attend(self, layer: int, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        blocks = self.pool.keys[layer], self.pool.values[layer]
        starts, table, lengths = self._starts, self._table, self._lengths
        if self._way == "blocks":
            longest = (1, self._longest)
            return varlen.attend_blocks(
                queries, *blocks, starts, self._ends, lengths, table, longest, self.scale
            )
        if self._way == "extents":
            columns = blocks[0].flatten(0, 1), blocks[1].flatten(0, 1)
            return varlen.attend_extents(
                queries, *columns, starts, self._extents, lengths, self._longest, self.scale
            )
        return attend_gathered(queries, *blocks, table, lengths, self.scale)


class CudaCapture:
    """Captures CUDA graphs, which share their memory: they are replayed one after the other."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._warm_up: torch.cuda.Stream | None = None
        self._alive: WeakSet[torch.cuda.CUDAGraph] = WeakSet()

    def __call__(self, run: Run) -> tuple[Callable[[], object], Tensor]:
        # Streams and graphs belong to the current device, which is not always the model's.
        with torch.cuda.device(self._device):
            if not self._alive:  # memory whose graphs are all gone cannot be used again
                self._memory = torch.cuda.graph_pool_handle()
            if self._warm_up is None:
                self._warm_up = torch.cuda.Stream()
            # A first run, because a library may set itself up, which a capture does not allow.
            self._warm_up.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(self._warm_up):
                run()
            torch.cuda.current_stream().wait_stream(self._warm_up)
            graph = torch.cuda.CUDAGraph()
            # Other threads may use the device meanwhile.
            with torch.cuda.graph(graph, pool=self._memory, capture_error_mode="thread_local"):
                logits = run()
            self._alive.add(graph)
        return graph.replay, logits


def bucket_of(rows: int) -> int:
    """The rows of the graph that a batch of so many rows runs in."""
    last = _BUCKETS[-1]
    if rows > last:
        return -(-rows // last) * last
    return next(bucket for bucket in _BUCKETS if rows <= bucket)
