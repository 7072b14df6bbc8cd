import threading

import pytest
import torch

from common.failures import ErrorCode
from runners.vlm.batcher import Batcher
from runners.vlm.row import Row
from runners.vlm.sampling import GREEDY, Sampling
from tests.support.models.batching import make_batcher, make_row, refusal, run
from tests.support.models.text_vlm import TextVlm


@pytest.fixture(scope="module")
def vlm() -> TextVlm:
    torch.set_num_threads(1)
    return TextVlm()


class Failing(TextVlm):
    """Raises what is put into `prefills` and `decodes`, once each, with half the work done."""

    def __init__(self) -> None:
        super().__init__()
        self.prefills: list[Exception] = []
        self.decodes: list[Exception] = []
        self.kept = True

    def prefill(self, encoded):
        prefilled = super().prefill(encoded)
        if self.prefills:
            raise self.prefills.pop()
        return prefilled

    def forget(self):
        self.kept = False

    def decode(self, tokens, positions, mask, cache):
        if self.decodes:
            keys = torch.full((len(tokens), 2, 1, 8), torch.nan)
            cache.update(keys, keys, 0)
            raise self.decodes.pop()
        return super().decode(tokens, positions, mask, cache)


OUT_OF_MEMORY = [
    torch.OutOfMemoryError("CUDA out of memory"),
    torch.AcceleratorError("CUDA error: out of memory"),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
]
BROKEN = torch.AcceleratorError("CUDA error: an illegal memory access was encountered")


def running_rows(batcher: Batcher) -> list[Row]:
    rows = [make_row(bytes([65 + number]) * 5) for number in range(3)]
    for row in rows:
        batcher.submit(row)
    for _ in rows:
        batcher.step()
    assert batcher.running_rows == 3
    return rows


def assert_as_alone(vlm: TextVlm, rows: list[Row]) -> None:
    for row in rows:
        assert row.future.result(timeout=0).tokens == vlm.generate(row.encoded, 20)


@pytest.mark.parametrize("error", OUT_OF_MEMORY)
def test_where_memory_runs_out_in_a_prefill_the_row_waits_until_another_leaves(vlm, error):
    failing = Failing()
    batcher = make_batcher(failing)
    rows = running_rows(batcher)
    failing.prefills.append(error)
    more = [make_row(bytes([97 + number]) * 4) for number in range(5)]
    for row in more:
        batcher.submit(row)
    while batcher.step():
        assert batcher.running_rows <= 3
    assert not failing.kept
    assert_as_alone(vlm, [*rows, *more])
    assert [row.started for row in more] == sorted(row.started for row in more)


def test_where_memory_runs_out_for_a_lone_row_what_is_kept_for_reuse_makes_room(vlm):
    failing = Failing()
    batcher, row = make_batcher(failing), make_row()
    failing.prefills.append(torch.OutOfMemoryError())
    batcher.submit(row)
    run(batcher)
    assert not failing.kept
    assert_as_alone(vlm, [row])


def test_a_lone_row_that_still_finds_no_memory_is_refused(vlm):
    failing = Failing()
    batcher = make_batcher(failing)
    failing.prefills += [torch.OutOfMemoryError()] * 2
    large, small = make_row(b"large"), make_row(b"small")
    batcher.submit(large)
    batcher.submit(small)
    run(batcher)
    assert refusal(large) is ErrorCode.OUT_OF_MEMORY
    assert_as_alone(vlm, [small])


@pytest.mark.parametrize("error", OUT_OF_MEMORY)
def test_memory_that_runs_out_in_a_step_costs_the_youngest_row_and_a_place(vlm, error):
    failing = Failing()
    batcher = make_batcher(failing)
    rows = running_rows(batcher)
    failing.decodes.append(error)
    later = make_row(b"later")
    batcher.step()
    batcher.submit(later)
    assert refusal(rows[2]) is ErrorCode.OUT_OF_MEMORY
    while batcher.step():
        assert batcher.running_rows <= 2
    assert_as_alone(vlm, [*rows[:2], later])


def test_a_seeded_row_draws_the_same_where_memory_ran_out_meanwhile():
    def drawn(errors: list[Exception]) -> list[int]:
        failing = Failing()
        batcher = make_batcher(failing)
        row = make_row(new=15, sampling=Sampling(1.0, seed=5))
        batcher.submit(row)
        batcher.submit(make_row(b"neighbour"))
        for _ in range(3):
            batcher.step()
        failing.decodes += errors
        run(batcher)
        return row.future.result(timeout=0).tokens

    assert drawn([]) == drawn([torch.OutOfMemoryError()])


def test_an_idle_batcher_forgets_that_memory_ran_out(vlm):
    failing = Failing()
    batcher = make_batcher(failing)
    running_rows(batcher)
    failing.decodes += [torch.OutOfMemoryError()] * 2
    run(batcher)
    running_rows(batcher)


def test_an_error_in_a_prefill_costs_that_row_alone(vlm):
    failing = Failing()
    batcher = make_batcher(failing)
    rows = running_rows(batcher)
    failing.prefills.append(ValueError("a fault"))
    unlucky = make_row(b"large")
    batcher.submit(unlucky)
    run(batcher)
    assert isinstance(unlucky.future.exception(timeout=0), ValueError)
    assert_as_alone(vlm, rows)


def test_an_error_in_a_step_costs_the_running_rows_and_not_the_next(vlm):
    failing = Failing()
    batcher = make_batcher(failing)
    rows = running_rows(batcher)
    failing.decodes.append(ValueError("a fault"))
    later = make_row(b"later")
    batcher.step()
    assert all(isinstance(row.future.exception(timeout=0), ValueError) for row in rows)
    batcher.submit(later)
    run(batcher)
    assert_as_alone(vlm, [later])


@pytest.mark.parametrize("where", ["prefills", "decodes"])
def test_a_device_that_is_broken_for_good_ends_the_process(where, monkeypatch):
    ended = threading.Event()
    monkeypatch.setattr("runners.vlm.batcher.end_process", ended.set)
    failing = Failing()
    getattr(failing, where).append(BROKEN)
    batcher, rows = make_batcher(failing), [make_row() for _ in range(3)]
    for row in rows:
        batcher.submit(row)
    batcher.start()
    assert ended.wait(60)
    assert [row.future.exception(timeout=60) for row in rows] == [BROKEN] * 3
    assert not batcher.is_alive


class Overflowing(TextVlm):
    """Its logits are NaN for a prompt, and for a row of the next step."""

    def __init__(self) -> None:
        super().__init__()
        self.prompt = b""
        self.row: int | None = None

    def prefill(self, encoded):
        prefilled = super().prefill(encoded)
        if bytes(encoded.inputs["input_ids"][0].tolist()) == self.prompt:
            prefilled.logits.fill_(torch.nan)
        return prefilled

    def decode(self, tokens, positions, mask, cache):
        logits = super().decode(tokens, positions, mask, cache)
        if self.row is not None:
            logits[self.row, 9] = torch.nan
            self.row = None
        return logits


@pytest.mark.parametrize("sampling", [GREEDY, Sampling(0.5, 1), Sampling(0.5, 1, 0.5)])
def test_a_prefill_without_numbers_fails_its_row_alone(vlm, sampling):
    overflowing = Overflowing()
    batcher = make_batcher(overflowing)
    rows = running_rows(batcher)
    overflowing.prompt = b"large"
    unlucky = make_row(b"large", sampling=sampling)
    batcher.submit(unlucky)
    run(batcher)
    assert refusal(unlucky) is ErrorCode.FAULT
    assert "CHATVLM_DTYPE" in str(unlucky.future.exception(timeout=0))
    assert unlucky.tokens == []
    assert_as_alone(vlm, rows)


@pytest.mark.parametrize("sampling", [GREEDY, Sampling(0.5, 1), Sampling(0.5, 1, 0.5)])
@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_step_without_numbers_fails_the_row_alone(vlm, sampling, place):
    overflowing = Overflowing()
    batcher = make_batcher(overflowing)
    rows = [make_row(bytes([65 + number]) * 5) for number in range(3)]
    rows[place].sampling = sampling
    for row in rows:
        batcher.submit(row)
        batcher.step()
    unlucky = rows.pop(place)
    overflowing.row = place
    made = len(unlucky.tokens)
    batcher.step()
    assert refusal(unlucky) is ErrorCode.FAULT
    assert len(unlucky.tokens) == made
    run(batcher)
    assert_as_alone(vlm, rows)
    assert batcher.running_rows == batcher.kv_bytes == 0
