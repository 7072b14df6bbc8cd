"""Every row gets the tokens that the library's `generate` gives it alone, whatever is around it."""

import functools
import random
from itertools import pairwise

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runners.vlm.interface import Encoded
from tests.support.models.batching import answers, blocks, make_batcher, make_row, run
from tests.support.models.text_vlm import TextVlm, encode

LONGEST = 24


def _prompts() -> list[Encoded]:
    """Prompts that share prefixes, seen and read, and prompts that share nothing."""
    dice = random.Random(0)
    texts = [dice.randbytes(length) for length in (1, 16, 3, 21, 9, 40)]
    prefixes = [dice.randbytes(length) for length in (5, 16, 33)]
    shared = [
        encode(prefix + text, len(prefix), seen)
        for prefix in prefixes
        for text in texts[:3]
        for seen in (False, True)
    ]
    return [*map(encode, texts), *shared]


PROMPTS = _prompts()


@functools.cache
def model(block_size: int = 16, reuse: bool = True) -> TextVlm:
    torch.set_num_threads(1)
    return TextVlm(block_size=block_size, reuse_bytes=2**20 if reuse else 0)


@functools.cache
def alone(prompt: int) -> list[int]:
    return model().generate(PROMPTS[prompt], LONGEST)


requests = st.lists(
    st.fixed_dictionaries(
        {
            "prompt": st.integers(0, len(PROMPTS) - 1),
            "new": st.integers(1, LONGEST),
            "arrives": st.integers(0, 25),
            "cancelled": st.one_of(st.none(), st.none(), st.none(), st.integers(0, 40)),
        }
    ),
    min_size=1,
    max_size=8,
)


@settings(
    max_examples=80,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
)
@given(
    requests=requests,
    block_size=st.sampled_from([1, 5, 16]),
    reuse=st.booleans(),
    columns=st.sampled_from([0, 80, 160, 320, 10_000]),
    most_tokens=st.sampled_from([1, 7, 30, 512]),
    token_gap=st.sampled_from([0.0, 60.0]),
)
def test_every_answer_is_what_generate_gives_alone(
    requests, block_size, reuse, columns, most_tokens, token_gap
):
    vlm = model(block_size, reuse)
    vlm.most_tokens = most_tokens
    vlm.forget()
    batcher = make_batcher(vlm, blocks(vlm, columns // block_size), token_gap=token_gap)
    streams: list[list[int]] = [[] for _ in requests]
    rows = [
        make_row(PROMPTS[request["prompt"]], request["new"], on_token=stream.append)
        for request, stream in zip(requests, streams, strict=True)
    ]
    step, busy = 0, True
    while busy or step <= 25:
        for row, request in zip(rows, requests, strict=True):
            if request["arrives"] == step:
                batcher.submit(row)
            if request["cancelled"] == step:
                row.future.cancel()
        busy = batcher.step()
        step += 1
    for row, request, stream in zip(rows, requests, streams, strict=True):
        expected = alone(request["prompt"])[: row.max_new_tokens]
        if row.future.cancelled():
            assert request["cancelled"] is not None
            assert stream == expected[: len(stream)]
        else:
            assert row.future.result(timeout=0).tokens == stream == expected
    assert batcher.running_rows == 0
    batcher._space.forget()
    batcher.shrink()
    assert batcher.kv_bytes == 0


@pytest.mark.parametrize("reuse", [False, True])
@pytest.mark.parametrize("most_tokens", [30, 512])
def test_rows_that_give_way_again_and_again_get_it_too(reuse, most_tokens):
    vlm = model(5, reuse)
    vlm.most_tokens = most_tokens
    batcher = make_batcher(vlm, blocks(vlm, 30))
    rows = [make_row(prompt, LONGEST) for prompt in PROMPTS]
    for row in rows:
        batcher.submit(row)
    run(batcher)
    assert batcher._scheduler.preemptions > 0
    for number, row in enumerate(rows):
        assert row.future.result(timeout=0).tokens == alone(number)


def test_threads_that_submit_at_once_all_get_it():
    vlm = model()
    batcher = make_batcher(vlm)
    batcher.start()
    rows = [make_row(bytes(range(20, 30 + number))) for number in range(12)]
    for row in rows:
        batcher.submit(row)
    made = [row.future.result(timeout=60).tokens for row in rows]
    batcher.close()
    assert made == [vlm.generate(row.encoded, 20) for row in rows]


@pytest.mark.parametrize("seen", [False, True])
@pytest.mark.parametrize("together", [False, True])
def test_two_rows_with_one_prefix_cost_one_prefill_of_it(together, seen):
    vlm = TextVlm()
    prompts = [encode(bytes(range(40, 80)) + text, 40, seen) for text in (b"what", b"whose")]
    made = answers(vlm, prompts, 20, together)
    assert vlm.prefilled == [(0, 44), (40, 45)]
    assert made == [vlm.generate(prompt, 20) for prompt in prompts]


def test_where_nothing_is_kept_every_row_is_computed_whole():
    vlm = TextVlm(reuse_bytes=0)
    prompts = [encode(bytes(range(40, 80)) + text, 40, seen=True) for text in (b"what", b"whose")]
    made = answers(vlm, prompts, 20)
    assert vlm.prefilled == [(0, 44), (0, 45)]
    assert made == [vlm.generate(prompt, 20) for prompt in prompts]


def test_a_prompt_longer_than_a_prefill_is_sliced_and_the_rest_of_the_prefill_is_used():
    vlm = TextVlm()
    vlm.most_tokens = 16
    prompts = [encode(bytes(range(40, 70))), encode(b"abcdefgh")]
    made = answers(vlm, prompts, 20)
    assert vlm.prefilled[:2] == [(0, 16), (16, 30)]
    assert made == [vlm.generate(prompt, 20) for prompt in prompts]


def test_a_row_goes_on_while_the_tower_sees_another_s_image():
    vlm = TextVlm()
    batcher = make_batcher(vlm, token_gap=0.0)
    running, seeing = make_row(b"page"), make_row(encode(b"an image, a text", 9, seen=True))
    batcher.submit(running)
    batcher.step()
    made = len(running.tokens)
    batcher.submit(seeing)
    batcher.step()
    assert len(running.tokens) == made + len(vlm.tower) + 1
    assert seeing.tokens == []
    run(batcher)
    for row in (running, seeing):
        assert row.future.result(timeout=0).tokens == vlm.generate(row.encoded, 20)


class Looking(TextVlm):
    """Its tower asks for other work again and again, after pauses of several lengths."""

    PAUSES = (0.03, 0.01, 0.03, 0.02, 0.03, 0.03, 0.01, 0.03) * 5

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def encode_images(self, prompts, between):
        for pause in self.PAUSES if between else ():
            self.now += pause
            between()
        return super().encode_images(prompts, None)

    def decode(self, rows):
        self.now += 0.01
        return super().decode(rows)


def test_a_row_goes_on_before_a_pause_of_the_tower_would_end_too_late(monkeypatch):
    vlm = Looking()
    monkeypatch.setattr("runners.vlm.batcher.time.monotonic", lambda: vlm.now)
    batcher = make_batcher(vlm, token_gap=0.1)
    times: list[float] = []
    running = make_row(b"page", new=60, on_token=lambda _: times.append(vlm.now))
    batcher.submit(running)
    for _ in range(20):  # the time of a step is known
        batcher.step()
    batcher.submit(make_row(encode(b"an image, a text", 9, seen=True)))
    before = len(times)
    batcher.step()
    waits = [later - earlier for earlier, later in pairwise(times[before - 1 :])]
    assert max(waits) <= 0.1 + 1e-9
    assert len(waits) <= sum(vlm.PAUSES) / 0.04
