import threading
from types import SimpleNamespace

import pytest
import torch

from common.failures import ErrorCode
from runners.decoder.part import places
from runners.scheduling.row import GREEDY, Row, Sampling
from runners.vlm.batcher import Batcher
from tests.support.models.batching import blocks, make_batcher, make_row, refusal, run
from tests.support.models.text_vlm import TextVlm, encode


@pytest.fixture(scope="module")
def vlm() -> TextVlm:
    torch.set_num_threads(1)
    return TextVlm()


class Failing(TextVlm):
    """Raises what is put into `sees`, `prefills` and `decodes`, once each, with half the work done:
    what it has written by then is not numbers."""

    def __init__(self, **changes) -> None:
        super().__init__(**changes)
        self.sees: list[Exception] = []
        self.prefills: list[Exception] = []
        self.decodes: list[Exception] = []
        self.kept = True

    def encode_images(self, prompts, between):
        features = super().encode_images(prompts, between)
        if self.sees:
            raise self.sees.pop()
        return features

    def prefill(self, asked):
        if self.prefills:
            self.spoil(asked)
            raise self.prefills.pop()
        return super().prefill(asked)

    def decode(self, asked):
        if self.decodes:
            self.spoil(asked)
            raise self.decodes.pop()
        return super().decode(asked)

    def spoil(self, asked):
        for place in places([one.part for one in asked], self.pool.block_size):
            for tensor in (*self.pool.keys, *self.pool.values):
                tensor[place // self.pool.block_size, place % self.pool.block_size] = torch.nan

    def forget(self):
        super().forget()
        self.kept = False


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
@pytest.mark.parametrize("where", ["sees", "prefills"])
def test_where_memory_runs_out_in_a_prefill_rows_wait_until_others_leave(vlm, error, where):
    failing = Failing()
    batcher = make_batcher(failing)
    rows = running_rows(batcher)
    getattr(failing, where).append(error)
    more = [make_row(encode(bytes([97 + number]) * 4, 3, seen=True)) for number in range(5)]
    for row in more:
        batcher.submit(row)
    while getattr(failing, where):
        batcher.step()
    most = batcher.running_rows
    assert most == 7
    while batcher.step():
        assert batcher.running_rows <= most
    assert not failing.kept
    assert_as_alone(vlm, [*rows, *more])
    assert [row.started for row in more] == sorted(row.started for row in more)


@pytest.mark.parametrize("where", ["sees", "prefills", "decodes"])
def test_where_memory_runs_out_for_a_lone_row_what_is_kept_for_reuse_makes_room(vlm, where):
    failing = Failing()
    batcher, row = make_batcher(failing), make_row(encode(b"page", 3, seen=True))
    getattr(failing, where).append(torch.OutOfMemoryError())
    batcher.submit(row)
    run(batcher)
    assert not failing.kept
    assert_as_alone(vlm, [row])


@pytest.mark.parametrize("where", ["sees", "prefills", "decodes"])
def test_a_lone_row_that_still_finds_no_memory_is_refused(vlm, where):
    failing = Failing()
    batcher = make_batcher(failing)
    getattr(failing, where).extend([torch.OutOfMemoryError()] * 2)
    large = make_row(encode(b"large", 3, seen=True))
    batcher.submit(large)
    run(batcher)
    assert refusal(large) is ErrorCode.OUT_OF_MEMORY
    small = make_row(b"small")
    batcher.submit(small)
    run(batcher)
    assert_as_alone(vlm, [small])


@pytest.mark.parametrize("error", OUT_OF_MEMORY)
def test_memory_that_runs_out_in_a_step_costs_no_row_but_a_place(vlm, error):
    failing = Failing()
    batcher = make_batcher(failing)
    rows = running_rows(batcher)
    failing.decodes.append(error)
    later = make_row(b"later")
    batcher.step()
    batcher.submit(later)
    assert not rows[2].future.done()
    assert batcher.running_rows == 2
    while batcher.step():
        assert batcher.running_rows <= 2
    assert_as_alone(vlm, [*rows, later])


def memory_for(vlm: TextVlm, count: int, monkeypatch) -> None:
    """From now on the pool cannot hold more than so many blocks."""
    resize = vlm.pool.resize
    monkeypatch.setattr(vlm.pool, "resize", lambda size, kept: size <= count and resize(size, kept))


def test_a_row_for_whose_prompt_there_is_no_memory_is_refused(vlm, monkeypatch):
    small = TextVlm(block_size=8)
    memory_for(small, 5, monkeypatch)
    batcher, large, row = make_batcher(small), make_row(b"l" * 48), make_row(b"small", new=10)
    batcher.submit(large)
    batcher.submit(row)
    run(batcher)
    assert refusal(large) is ErrorCode.OUT_OF_MEMORY
    assert row.future.result(timeout=0).tokens == vlm.generate(row.encoded, 10)


def test_a_row_that_outgrows_the_memory_alone_is_refused_and_those_beside_it_are_not(
    vlm, monkeypatch
):
    small = TextVlm(block_size=8)
    memory_for(small, 5, monkeypatch)
    batcher, rows = make_batcher(small), [make_row(b"page", new) for new in (100, 20, 30)]
    for row in rows:
        batcher.submit(row)
    run(batcher)
    assert refusal(rows[0]) is ErrorCode.OUT_OF_MEMORY
    for row in rows[1:]:
        expected = vlm.generate(row.encoded, row.max_new_tokens)
        assert row.future.result(timeout=0).tokens == expected


class Interrupted(Failing):
    """While it sees an image, `between` is called so many times; only then an error is raised."""

    calls = 0

    def encode_images(self, prompts, between):
        for _ in range(self.calls if between else 0):
            between()
        return super().encode_images(prompts, None)


@pytest.mark.parametrize("errors", [[], [torch.OutOfMemoryError()]])
@pytest.mark.parametrize("calls", [1, 12, 40])
def test_a_row_that_gives_way_while_its_image_is_seen_goes_on_afterwards(vlm, errors, calls):
    model = Interrupted(block_size=8)
    batcher = make_batcher(model, blocks(model, 6), token_gap=0.0)
    running, seeing = make_row(b"page", new=40), make_row(encode(b"s" * 20, 19, seen=True), new=9)
    batcher.submit(running)
    batcher.step()
    model.sees += errors
    model.calls = calls
    batcher.submit(seeing)
    run(batcher)
    assert batcher._scheduler.preemptions or calls == 1
    for row in (running, seeing):
        expected = vlm.generate(row.encoded, row.max_new_tokens)
        assert row.future.result(timeout=0).tokens == expected


def test_a_seeded_row_draws_the_same_where_memory_ran_out_meanwhile():
    def drawn(errors: list[Exception]) -> list[int]:
        failing = Failing()
        batcher = make_batcher(failing)
        row = make_row(new=15, sampling=Sampling(1.0, seed=5))
        batcher.submit(make_row(b"neighbour"))
        batcher.submit(row)
        for _ in range(3):
            batcher.step()
        failing.decodes += errors
        run(batcher)
        return row.future.result(timeout=0).tokens

    assert drawn([]) == drawn([torch.OutOfMemoryError()]) == drawn([torch.OutOfMemoryError()] * 2)


def test_an_idle_batcher_forgets_that_memory_ran_out(vlm):
    failing = Failing()
    batcher = make_batcher(failing)
    running_rows(batcher)
    failing.decodes += [torch.OutOfMemoryError()] * 2
    run(batcher)
    running_rows(batcher)


@pytest.mark.parametrize("where", ["sees", "prefills"])
def test_an_error_in_a_prefill_costs_that_row_alone(vlm, where):
    failing = Failing()
    batcher = make_batcher(failing)
    rows = running_rows(batcher)
    getattr(failing, where).append(ValueError("a fault"))
    unlucky = make_row(encode(b"large", 3, seen=True))
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


@pytest.mark.parametrize("where", ["sees", "prefills", "decodes"])
def test_a_device_that_is_broken_for_good_ends_the_process(where, monkeypatch):
    ended = threading.Event()
    monkeypatch.setattr("runners.vlm.batcher.end_process", ended.set)
    failing = Failing()
    getattr(failing, where).append(BROKEN)
    batcher, rows = make_batcher(failing), [make_row(encode(b"page", 3, seen=True))]
    for row in rows:
        batcher.submit(row)
    batcher.start()
    assert ended.wait(60)
    assert [row.future.exception(timeout=60) for row in rows] == [BROKEN]
    assert not batcher.is_alive


@pytest.mark.parametrize("error", [ValueError("a fault"), torch.OutOfMemoryError()])
def test_an_error_that_shows_only_when_the_tokens_are_read_is_one_of_the_step(
    vlm, error, monkeypatch
):
    batcher = make_batcher(vlm)
    rows = running_rows(batcher)

    def unreadable(*step: object) -> SimpleNamespace:
        def read() -> None:
            raise error

        return SimpleNamespace(read=read)

    with monkeypatch.context() as failing:
        failing.setattr("runners.vlm.batcher.choose", unreadable)
        batcher.step()
    run(batcher)
    if isinstance(error, ValueError):
        assert [row.future.exception(timeout=0) for row in rows] == [error] * 3
    else:
        assert batcher.preemptions == 1
        assert_as_alone(vlm, rows)


class Overflowing(TextVlm):
    """Its logits are NaN for a prompt, and for a row of the next step; so are its columns then."""

    def __init__(self) -> None:
        super().__init__()
        self.prompt = b""
        self.row: int | None = None

    def prefill(self, asked):
        logits = super().prefill(asked)
        for row, one in enumerate(asked):
            if bytes(one.encoded.tokens.tolist()) == self.prompt:
                self.spoil(one.part.blocks)
                logits[row] = torch.nan
        return logits

    def decode(self, asked):
        logits = super().decode(asked)
        if self.row is not None:
            self.spoil(asked[self.row].part.blocks)
            logits[self.row, 9] = torch.nan
            self.row = None
        return logits

    def spoil(self, blocks):
        for tensor in (*self.pool.keys, *self.pool.values):
            tensor[list(blocks)] = torch.nan


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
    assert batcher.running_rows == 0


def test_what_a_failed_row_left_in_its_blocks_reaches_no_other(vlm):
    overflowing = Overflowing()
    batcher = make_batcher(overflowing, blocks(overflowing, 6))
    rows = running_rows(batcher)
    overflowing.row = 1
    batcher.step()
    left = torch.cat([*overflowing.pool.keys, *overflowing.pool.values]).isnan().sum()
    assert left > 0
    more = [make_row(bytes([97 + number]) * 4) for number in range(5)]
    for row in more:
        batcher.submit(row)
        run(batcher)
    assert torch.cat([*overflowing.pool.keys, *overflowing.pool.values]).isnan().sum() < left
    assert_as_alone(vlm, [rows[0], rows[2], *more])
