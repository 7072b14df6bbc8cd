from concurrent.futures import CancelledError

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from common.deadline import Deadline
from common.failures import ErrorCode
from common.units import GIB
from runners.metrics import Metrics
from runners.vlm.batcher import Batcher
from runners.vlm.kv_cache import KvCache
from runners.vlm.row import Finished
from runners.vlm.sampling import Sampling, make_draws
from tests.support.models.batching import make_batcher, make_row, refusal, run
from tests.support.models.text_vlm import TextVlm, encode


@pytest.fixture(scope="module")
def vlm() -> TextVlm:
    torch.set_num_threads(1)
    return TextVlm()


requests = st.lists(
    st.fixed_dictionaries(
        {
            "prompt": st.binary(min_size=1, max_size=40),
            "new": st.integers(1, 40),
            "arrives": st.integers(0, 25),
            "cancelled": st.one_of(st.none(), st.none(), st.integers(0, 40)),
        }
    ),
    min_size=1,
    max_size=8,
)


@settings(
    max_examples=15,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
)
@given(
    requests=requests,
    row_chunk=st.integers(1, 3),
    column_chunk=st.integers(1, 24),
    kv_budget=st.sampled_from([0, 100_000, GIB]),
)
def test_every_answer_is_what_generate_gives_alone(
    vlm, requests, row_chunk, column_chunk, kv_budget
):
    batcher = make_batcher(vlm, cache=KvCache(row_chunk, column_chunk), kv_budget=kv_budget)
    rows = [make_row(request["prompt"], request["new"]) for request in requests]
    step, busy = 0, True
    while busy or step <= 25:
        for row, request in zip(rows, requests, strict=True):
            if request["arrives"] == step:
                batcher.submit(row)
            if request["cancelled"] == step:
                row.future.cancel()
        busy = batcher.step()
        step += 1
    for row, request in zip(rows, requests, strict=True):
        if row.future.cancelled():
            assert request["cancelled"] is not None
        else:
            tokens = vlm.generate(row.encoded, row.max_new_tokens)
            assert row.future.result(timeout=0).tokens == tokens
    assert batcher.running_rows == batcher.kv_bytes == 0


def test_threads_that_submit_at_once_all_get_what_generate_gives(vlm):
    batcher = make_batcher(vlm)
    batcher.start()
    rows = [make_row(bytes(range(20, 30 + number))) for number in range(12)]
    for row in rows:
        batcher.submit(row)
    answers = [row.future.result(timeout=60).tokens for row in rows]
    batcher.close()
    assert answers == [vlm.generate(row.encoded, 20) for row in rows]


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
    assert len(seen) == 2  # the prefill's, and one step's
    run(batcher)
    assert seen == row.future.result(timeout=0).tokens


def test_a_loop_is_stopped_and_cut_to_one_period(vlm):
    class Stuck(TextVlm):
        def decode(self, tokens, positions, mask, cache):
            super().decode(tokens, positions, mask, cache)
            return torch.nn.functional.one_hot(positions % 3, 256).float()

    row, batcher = make_row(b"abcd", new=2000), make_batcher(Stuck())
    batcher.submit(row)
    run(batcher)
    first = vlm.generate(row.encoded, 1)
    assert row.future.result(timeout=0) == Finished([*first, 1, 2, 0], "repetition")


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


def test_rows_are_admitted_first_come_first_served_one_prefill_a_step(vlm):
    batcher, rows = make_batcher(vlm), [make_row(new=30) for _ in range(4)]
    for row in rows:
        batcher.submit(row)
    for admitted in range(1, 5):
        batcher.step()
        assert [bool(row.tokens) for row in rows] == [True] * admitted + [False] * (4 - admitted)


def test_a_row_waits_until_the_kv_budget_holds_it(vlm):
    batcher = make_batcher(vlm, kv_budget=0)
    first, second = make_row(new=5), make_row(new=5)
    batcher.submit(first)
    batcher.submit(second)
    while not first.future.done():
        batcher.step()
        assert batcher.running_rows <= 1
    run(batcher)
    assert first.future.result(timeout=0) == second.future.result(timeout=0)


def test_a_row_waits_while_somebody_else_has_the_memory(vlm):
    taken = True
    batcher = Batcher(vlm, Metrics("test"), lambda held: held + (0 if taken else GIB), 60.0)
    rows = [make_row(new=100) for _ in range(8)]
    for row in rows:
        batcher.submit(row)
    for _ in rows:
        batcher.step()
    assert batcher.running_rows == 4  # the slots that the first row's chunk has
    taken = False
    batcher.step()
    assert batcher.running_rows == 5


def test_rows_are_kept_in_the_cache_that_was_given(vlm):
    cache = KvCache(1, 8)
    batcher = make_batcher(vlm, cache=cache)
    batcher.submit(make_row(b"page"))
    batcher.step()
    assert cache.lengths == [5]
    assert batcher.kv_bytes == cache.bytes_for(1, 5)


def test_the_cache_never_holds_more_than_its_budget(vlm):
    cache = KvCache(1, 8)
    cache.join(vlm.prefill(encode(b"1")).layers)
    per_token = cache.bytes_per_token
    cache.release()
    budget = 3 * 48 * per_token
    batcher = make_batcher(vlm, kv_budget=budget, cache=cache)
    rows = [make_row(bytes(range(50, 60 + 2 * number)), new=10 + number) for number in range(10)]
    for row in rows:
        batcher.submit(row)
    most = 0
    while batcher.step():
        most = max(most, batcher.running_rows)
        assert batcher.kv_bytes <= budget
    assert most >= 3
    assert all(row.future.done() for row in rows)


def test_nobody_joins_while_steps_take_longer_than_their_target(vlm, monkeypatch):
    batcher = make_batcher(vlm, step_target=0.0)
    monkeypatch.setattr("runners.vlm.scheduler.MAX_SLOWDOWN", 0)
    rows = [make_row(new=5) for _ in range(3)]
    for row in rows:
        batcher.submit(row)
    while batcher.step():
        assert batcher.running_rows <= 1
    assert all(row.future.result(timeout=0) for row in rows)


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

    monkeypatch.setattr("runners.vlm.batcher.make_draws", noted("draws", make_draws))
    monkeypatch.setattr(vlm, "prefill", noted("forward", vlm.prefill))
    monkeypatch.setattr(vlm, "decode", noted("forward", vlm.decode))
    batcher = make_batcher(vlm)
    batcher.submit(make_row(new=3, sampling=Sampling(1.0, seed=5)))
    run(batcher)
    assert order == ["draws", "forward"] * 3


def test_a_closed_batcher_refuses_all_that_it_holds_and_all_that_comes(vlm):
    batcher = make_batcher(vlm, kv_budget=0)
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

    batcher = Batcher(vlm, Broken("test"), lambda held: GIB, 60.0)
    batcher.start()
    rows = [make_row(new=10_000) for _ in range(2)]
    for row in rows:
        batcher.submit(row)
    for row in rows:
        assert row.future.exception(timeout=60) is not None
