import time
from concurrent.futures import CancelledError

import pytest
import torch

from common.deadline import Deadline
from common.failures import ErrorCode
from common.units import GIB
from runners.metrics import Metrics
from runners.sampling.sampler import Choices, Chosen, Sampler, choose
from runners.scheduling.row import Finished, Sampling
from runners.vlm.batcher import Batcher
from tests.support.models.batching import blocks, make_batcher, make_row, refusal, run
from tests.support.models.text_vlm import TextVlm, encode


@pytest.fixture(scope="module")
def vlm() -> TextVlm:
    torch.set_num_threads(1)
    return TextVlm()


def test_a_row_ends_by_its_stop_token_or_by_its_length(vlm):
    texts = [bytes([number]) * 3 for number in range(20, 120)]
    batcher, rows = make_batcher(vlm), [make_row(text) for text in texts]
    for row in rows:
        batcher.submit(row)
    run(batcher)
    results = [row.future.result(timeout=0) for row in rows]
    assert {result.reason for result in results} == {"stop", "length"}
    assert all((len(result.tokens) == 20) == (result.reason == "length") for result in results)


def test_tokens_are_handed_over_as_they_are_made(vlm):
    seen: list[int] = []
    row, batcher = make_row(on_token=seen.append), make_batcher(vlm)
    batcher.submit(row)
    batcher.step()
    assert len(seen) == 1  # the prefill's
    batcher.step()
    assert len(seen) == 2
    run(batcher)
    assert seen == row.future.result(timeout=0).tokens


def test_a_loop_is_stopped_and_only_its_beginning_is_handed_over(vlm):
    class Stuck(TextVlm):
        def decode(self, asked):
            positions = torch.tensor([one.part.start for one in asked])
            return torch.nn.functional.one_hot(positions % 3, 256).float()

    seen: list[int] = []
    row, batcher = make_row(b"abcd", new=2000, on_token=seen.append), make_batcher(Stuck())
    batcher.submit(row)
    run(batcher)
    result = row.future.result(timeout=0)
    first = vlm.generate(row.encoded, 1)
    loop = [1, 2, 0] * 20
    assert result.reason == "repetition"
    assert result.tokens == seen == [*first, *loop][: len(seen)]
    assert 32 < len(seen) < 64 < 128 * 3 < result.made < 128 * 3 + 20


def test_a_seeded_row_draws_the_same_alone_and_in_company(vlm):
    def drawn(neighbours: int) -> list[int]:
        batcher = make_batcher(vlm)
        row = make_row(new=15, sampling=Sampling(1.0, seed=5))
        for number in range(neighbours):
            batcher.submit(make_row(bytes([number + 1]), new=5 + number))
        batcher.submit(row)
        run(batcher)
        return row.future.result(timeout=0).tokens

    assert drawn(0) == drawn(3)
    assert drawn(0) != vlm.generate(encode(b"page"), 15)


def test_rows_are_admitted_first_come_first_served():
    vlm = TextVlm()
    vlm.most_tokens = 12  # two prompts of six
    batcher, rows = make_batcher(vlm), [make_row(b"page %d" % number) for number in range(4)]
    for row in rows:
        batcher.submit(row)
    for admitted in (2, 4):
        batcher.step()
        assert [bool(row.tokens) for row in rows] == [number < admitted for number in range(4)]


def test_a_row_that_is_alone_is_answered_beyond_the_budget_and_others_wait_for_its_end(vlm):
    batcher = make_batcher(vlm, kv_budget=0)
    first, second = make_row(bytes(range(40, 80))), make_row(bytes(range(40, 80)))
    batcher.submit(first)
    batcher.submit(second)
    while not first.future.done():
        batcher.step()
        assert batcher.running_rows <= 1
    run(batcher)
    assert first.future.result(timeout=0) == second.future.result(timeout=0)
    assert first.tokens == vlm.generate(first.encoded, 20)


def test_a_row_waits_while_somebody_else_has_the_memory():
    vlm = TextVlm()
    free = 0
    batcher = Batcher(vlm, Metrics("test"), lambda held: held + free, 60.0, 60.0)
    rows = [make_row(b"page %d" % number, new=40) for number in range(4)]
    for row in rows:
        batcher.submit(row)
    batcher.step()
    assert batcher.running_rows == 1
    free = GIB
    batcher.step()
    assert batcher.running_rows == 4


def test_the_cache_never_holds_more_than_its_budget():
    vlm = TextVlm(block_size=8)
    budget = blocks(vlm, 18)
    batcher = make_batcher(vlm, budget)
    rows = [make_row(bytes(range(50, 60 + 2 * number)), new=10 + number) for number in range(10)]
    for row in rows:
        batcher.submit(row)
    most = 0
    while batcher.step():
        most = max(most, batcher.running_rows)
        assert batcher.kv_bytes <= budget
    assert most >= 3
    for row in rows:
        assert row.future.result(timeout=0).tokens == vlm.generate(row.encoded, row.max_new_tokens)


@pytest.mark.parametrize("sampling", [Sampling(1.0, seed=5), Sampling(1.0, seed=5, top_p=0.7)])
def test_a_seeded_row_that_gives_way_draws_and_streams_as_if_it_had_not(sampling):
    def drawn(count: int) -> tuple[list[int], list[int], int]:
        vlm, stream = TextVlm(block_size=8), []
        batcher = make_batcher(vlm, blocks(vlm, count))
        row = make_row(b"page", new=25, sampling=sampling, on_token=stream.append)
        batcher.submit(make_row(b"older", new=40))
        batcher.submit(row)
        run(batcher)
        return row.future.result(timeout=0).tokens, stream, batcher._scheduler.preemptions

    tokens, stream, preemptions = drawn(6)
    assert preemptions > 0
    assert (tokens, tokens, 0) == drawn(1000)
    assert stream == tokens


def test_a_row_whose_time_ends_while_it_waits_to_go_on_ends_with_what_it_has():
    vlm = TextVlm(block_size=8)
    batcher = make_batcher(vlm, blocks(vlm, 6))
    older, row = make_row(b"older", new=40), make_row(b"page", new=40)
    batcher.submit(older)
    batcher.submit(row)
    while not batcher._scheduler.waiting:
        batcher.step()
    made = list(row.tokens)
    assert made
    row.deadline = Deadline(0)
    batcher.step()
    assert row.future.result(timeout=0) == Finished(made, "deadline", len(made))
    run(batcher)
    assert older.future.result(timeout=0).tokens == vlm.generate(older.encoded, 40)


def test_an_idle_batcher_gives_the_memory_back_and_keeps_the_prefixes(monkeypatch):
    monkeypatch.setattr("runners.vlm.batcher.IDLE_SECONDS", 0.05)
    vlm = TextVlm()
    batcher = make_batcher(vlm)
    batcher.start()
    prompt = encode(bytes(range(40, 80)), shared=32)
    for _ in range(2):
        row = make_row(prompt)
        batcher.submit(row)
        assert row.future.result(timeout=60).tokens == vlm.generate(prompt, 20)
        ends = time.monotonic() + 30
        while batcher.kv_bytes != blocks(vlm, 2) and time.monotonic() < ends:
            time.sleep(0.01)
        assert batcher.kv_bytes == blocks(vlm, 2)
    batcher.close()
    assert batcher.kv_bytes == 0
    assert vlm.prefilled == [(0, 40), (32, 40)]


def test_nobody_joins_while_steps_take_longer_than_their_target(vlm, monkeypatch):
    batcher = make_batcher(vlm, step_target=0.0)
    monkeypatch.setattr("runners.scheduling.scheduler.MAX_SLOWDOWN", 0)
    rows = [make_row(new=5) for _ in range(3)]
    batcher.submit(rows[0])
    for _ in range(2):  # a prefill, and a step whose time is known then
        batcher.step()
    for row in rows[1:]:
        batcher.submit(row)
    while batcher.step():
        assert batcher.running_rows <= 1
    assert all(row.future.result(timeout=0) for row in rows)


def test_a_step_that_captures_a_graph_says_nothing_of_the_time_of_others(monkeypatch):
    now = 0.0
    monkeypatch.setattr("runners.vlm.batcher.time.monotonic", lambda: now)

    class Capturing(TextVlm):
        captures = 0
        """It captures a graph at every third step."""
        decoded = 0

        def decode(self, asked):
            nonlocal now
            captures = self.decoded % 3 == 0
            self.captures += captures
            self.decoded += 1
            now += 5.0 if captures else 0.01
            return super().decode(asked)

    batcher, row = make_batcher(Capturing()), make_row(new=10)
    batcher.submit(row)
    means = []
    while batcher.step():
        means.append(batcher._scheduler.mean_step)
    assert 0 < max(means) <= 0.01
    assert means.count(0.0) == 2  # after the prefill, and after the first step


@pytest.mark.parametrize("steps", [0, 1, 4])
def test_a_cancelled_row_is_gone_after_the_next_step(vlm, steps):
    batcher = make_batcher(vlm, kv_budget=0 if steps == 0 else GIB)
    other, row = make_row(), make_row(b"other")
    batcher.submit(other)
    batcher.submit(row)
    batcher.step()
    for _ in range(steps):
        batcher.step()
    assert row.future.cancel()
    batcher.step()
    assert batcher.running_rows == 1
    run(batcher)
    assert other.future.result(timeout=0).tokens == vlm.generate(other.encoded, 20)
    with pytest.raises(CancelledError):
        row.future.result(timeout=0)


def test_a_deadline_refuses_a_row_that_waits_and_ends_one_that_runs(vlm):
    batcher = make_batcher(vlm, kv_budget=0)
    running, waiting = make_row(new=500), make_row(seconds=0)
    batcher.submit(running)
    batcher.step()
    batcher.submit(waiting)
    batcher.step()
    assert refusal(waiting) is ErrorCode.DEADLINE
    running.deadline = Deadline(0)
    batcher.step()
    result = running.future.result(timeout=0)
    assert result.reason == "deadline"
    assert result.tokens == vlm.generate(running.encoded, len(result.tokens))


def test_what_a_step_draws_with_is_uploaded_before_the_forward(vlm, monkeypatch):
    order: list[str] = []

    def noted(name, call):
        return lambda *arguments: (order.append(name), call(*arguments))[1]

    monkeypatch.setattr(Sampler, "prepare", noted("draws", Sampler.prepare))
    monkeypatch.setattr(vlm, "prefill", noted("forward", vlm.prefill))
    monkeypatch.setattr(vlm, "decode", noted("forward", vlm.decode))
    batcher = make_batcher(vlm)
    batcher.submit(make_row(new=3, sampling=Sampling(1.0, seed=5)))
    run(batcher)
    assert order == ["draws", "forward"] * 3


class Queued:
    """Tokens that a GPU still computes: reading them waits for it."""

    def __init__(self, choices: Choices, order: list[str]) -> None:
        self._choices = choices
        self._order = order

    def read(self) -> list[Chosen]:
        self._order.append("read")
        return self._choices.read()


def test_the_metrics_are_updated_while_a_gpu_computes_a_step(vlm, monkeypatch):
    order: list[str] = []

    def queued(*step):
        order.append("queued")
        return Queued(choose(*step), order)

    monkeypatch.setattr("runners.vlm.batcher.choose", queued)
    batcher, row = make_batcher(vlm), make_row(new=3)
    update = batcher._update_metrics
    monkeypatch.setattr(batcher, "_update_metrics", lambda: (order.append("metrics"), update()))
    batcher.submit(row)
    run(batcher)
    assert order == ["queued", "metrics", "read"] * 3 + ["metrics"]
    assert row.future.result(timeout=0).tokens == vlm.generate(row.encoded, 3)
    assert batcher._metrics.rows._value.get() == 0


def test_a_closed_batcher_refuses_all_that_it_holds_and_all_that_comes():
    batcher = make_batcher(TextVlm(), kv_budget=0)
    rows = [make_row(new=10_000) for _ in range(3)]
    batcher.start()
    for row in rows:
        batcher.submit(row)
    batcher.close()
    late = make_row()
    batcher.submit(late)
    assert [refusal(row) for row in [*rows, late]] == [ErrorCode.UNAVAILABLE] * 4
    assert batcher.kv_bytes == 0


def test_a_thread_that_dies_takes_no_row_with_it_in_silence(vlm):
    class Broken(Metrics):
        def record_reuse(self, stats):
            raise SystemError("a fault in the batcher itself")

    batcher = Batcher(vlm, Broken("test"), lambda held: GIB, 60.0, 60.0)
    batcher.start()
    rows = [make_row(new=10_000) for _ in range(2)]
    for row in rows:
        batcher.submit(row)
    for row in rows:
        assert row.future.exception(timeout=60) is not None
