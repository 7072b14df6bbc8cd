"""Decode steps in graphs, with a stand-in for CUDA's that runs the captured function again."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from runners.decoder.eager import EagerStep
from runners.decoder.graphs import GraphedStep, bucket_of
from runners.decoder.part import Part
from tests.support.models.decoders import decoder_of, filled_pool, library_model

CPU = torch.device("cpu")


class Recorder:
    """Captures by running; a replay runs again and writes to the same tensor, as a graph does."""

    def __init__(self) -> None:
        self.captured: list[int] = []
        """Rows of each capture."""
        self.replays = 0

    def __call__(self, run: Callable[[], Tensor]) -> tuple[Callable[[], object], Tensor]:
        result = run()
        self.captured.append(len(result))

        def replay() -> None:
            self.replays += 1
            result.copy_(run())

        return replay, result


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture
def pool(decoder):
    return filled_pool(decoder)


@pytest.fixture(scope="module", params=["qwen2", "qwen3"])
def decoder(request):
    return decoder_of(library_model(request.param))


@pytest.fixture
def step(decoder, pool, recorder) -> GraphedStep:
    return GraphedStep(decoder, pool, CPU, recorder)


def rows(count: int, blocks_a_row: int = 1) -> list[Part]:
    return [
        Part(range(n * blocks_a_row, (n + 1) * blocks_a_row), n % 8 + 8 * (blocks_a_row - 1), 1)
        for n in range(count)
    ]


def call(step, parts: list[Part], first: int = 40) -> Tensor:
    tokens = [first + n for n in range(len(parts))]
    with torch.no_grad():
        return step(tokens, [part.start for part in parts], parts).clone()


@pytest.mark.parametrize("count", [1, 3, 8, 11])
def test_a_graph_gives_the_logits_of_the_eager_step(decoder, step, count):
    eager = EagerStep(decoder, filled_pool(decoder), CPU)
    torch.manual_seed(0)
    for tensor in (*step._pool.keys, *step._pool.values):
        tensor.normal_()
    torch.manual_seed(0)
    for tensor in (*eager._pool.keys, *eager._pool.values):
        tensor.normal_()
    for first in (40, 90):  # the second time is a replay
        expected = call(eager, rows(count), first)
        torch.testing.assert_close(call(step, rows(count), first), expected, rtol=1e-4, atol=1e-4)


def test_batches_of_one_bucket_share_a_graph(step, recorder):
    for count in (5, 8, 6, 5):
        assert len(call(step, rows(count))) == count
    assert recorder.captured == [8]
    assert recorder.replays == 4
    assert step.captures == 1


def test_each_bucket_is_captured_once(step, recorder):
    for count in (1, 2, 3, 1, 2, 4):
        call(step, rows(count))
    assert recorder.captured == [1, 2, 4]


def test_a_graph_is_captured_anew_when_the_cache_has_moved(step, pool, recorder):
    call(step, rows(2))
    pool.resize(9 * pool.count, range(pool.count))
    call(step, rows(2))
    assert recorder.captured == [2, 2]


def test_a_graph_is_captured_anew_when_a_row_has_more_blocks_than_its_table(step, recorder):
    call(step, rows(2, blocks_a_row=1))
    call(step, rows(2, blocks_a_row=3))  # the table has places for four now
    call(step, rows(2, blocks_a_row=4))
    assert recorder.captured == [2, 2]


def test_a_capture_writes_to_no_block_but_the_rows_own(step, pool):
    before = [tensor.clone() for tensor in (*pool.keys, *pool.values)]
    call(step, [Part([7], 2, 1), Part([9], 0, 1), Part([11], 4, 1)])
    for tensor, old in zip((*pool.keys, *pool.values), before, strict=True):
        changed = (tensor != old).flatten(2).any(-1).nonzero()
        assert changed.tolist() == [[7, 2], [9, 0], [11, 4]]


@pytest.mark.parametrize(
    ("count", "bucket"), [(1, 1), (3, 4), (9, 16), (17, 24), (33, 48), (128, 128), (257, 512)]
)
def test_buckets_are_close_above_the_rows(count, bucket):
    assert bucket_of(count) == bucket


def test_a_step_that_cannot_be_captured_runs_without_a_graph_from_then_on(decoder, pool, caplog):
    calls = []

    def refusing(run):
        calls.append(run)
        raise torch.AcceleratorError("CUDA error: operation not permitted when stream is capturing")

    step = GraphedStep(decoder, pool, CPU, refusing)
    eager = EagerStep(decoder, pool, CPU)
    for first in (40, 90):
        expected = call(eager, rows(3), first)
        torch.testing.assert_close(call(step, rows(3), first), expected)
    assert len(calls) == 1
    assert "cannot be captured" in caplog.text


def test_memory_that_runs_out_in_a_capture_is_told_as_it_is(decoder, pool):
    def failing(run):
        raise torch.OutOfMemoryError("CUDA out of memory")

    step = GraphedStep(decoder, pool, CPU, failing)
    with pytest.raises(torch.OutOfMemoryError):
        call(step, rows(3))


def test_graphs_are_captured_anew_after_their_memory_was_given_back(step, recorder):
    call(step, rows(2))
    step.release()
    call(step, rows(2))
    assert recorder.captured == [2, 2]
