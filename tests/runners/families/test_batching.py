"""Rows with images in one batch, in every family: each gets what the library's `generate` makes of
it alone, whatever joins, leaves, gives way, is sliced, packed or shared around it."""

import functools
import importlib
from collections.abc import Iterator

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import (
    GotOcr2ForConditionalGeneration,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2VLForConditionalGeneration,
    Qwen3VLForConditionalGeneration,
)

from common.catalog import Entry
from runners.families.dots_ocr.model import DotsOCRForCausalLM
from settings import Settings
from tests.support.models.batching import blocks, make_batcher, make_row
from tests.support.models.checkpoints import make_checkpoint
from tests.support.models.entries import listed
from tests.support.models.greedy import generate
from tests.support.models.prompts import chat, ocr, page, talk

PLAIN = {
    "qwen_vl_2b": Qwen2VLForConditionalGeneration,
    "qwen2_5_vl_3b": Qwen2_5_VLForConditionalGeneration,
    "qwen3_vl_2b": Qwen3VLForConditionalGeneration,
    "got_ocr": GotOcr2ForConditionalGeneration,
    "dots_ocr": DotsOCRForCausalLM,
}
SIZES = ((64, 64), (200, 120), (150, 330))
LONGEST = 16


class Family:
    """A model with and without reuse, requests to it, and the tokens that each gets alone."""

    def __init__(self, entry: Entry, folder) -> None:
        torch.set_num_threads(1)
        make_checkpoint(entry.id, folder)
        module = importlib.import_module(f"runners.families.{entry.family}")
        self.models = {
            reuse: module.load(
                entry, Settings(weights=folder.parent, dtype="float32", reuse_mib=reuse)
            )
            for reuse in (0, 64)
        }
        vlm = self.models[0]
        requests = [
            prompt
            for image in (page(*size) for size in SIZES)
            for prompt in (chat(image, "What is this?"), ocr(image), chat(image, "And the total?"))
        ]
        if entry.converses:
            first, second = page(64, 64), page(200, 120, seed=1)
            requests[-2:] = [
                talk(("user", first, second, "What differs?")),
                talk(("user", "The quick"), ("assistant", "fox"), ("user", "jumps")),
            ]
        self.prompts = [vlm.encode(request) for request in requests]
        self._plain = PLAIN[entry.id].from_pretrained(folder, dtype=torch.float32).eval()

    @functools.cache  # noqa: B019 the family lives as long as the tests of its module
    def alone(self, number: int) -> list[int]:
        """The tokens of a prompt, up to its stop token."""
        tokens = generate(self._plain, self.prompts[number], LONGEST)
        stops = [i for i, token in enumerate(tokens) if token in self.models[0].stop_tokens]
        return tokens[: stops[0]] if stops else tokens


@pytest.fixture(scope="module", params=PLAIN)
def family(request, tmp_path_factory) -> Iterator[Family]:
    with listed(request.param) as entry:
        yield Family(entry, tmp_path_factory.mktemp("weights") / entry.id)


rows = st.fixed_dictionaries(
    {
        "asked": st.integers(0, 3 * len(SIZES) - 1),
        "new": st.integers(1, LONGEST),
        "arrives": st.integers(0, 12),
        "cancelled": st.one_of(st.none(), st.none(), st.integers(1, 20)),
    }
)


@settings(
    max_examples=30,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
)
@given(
    plan=st.lists(rows, min_size=3, max_size=8),
    reuse=st.sampled_from([0, 64]),
    budget=st.sampled_from([0, 6, 12, 10_000]),
    most_tokens=st.sampled_from([50, 512]),
    token_gap=st.sampled_from([0.0, 60.0]),
)
def test_every_row_gets_what_it_gets_alone(family, plan, reuse, budget, most_tokens, token_gap):
    vlm = family.models[reuse]
    vlm.most_tokens = most_tokens
    vlm.forget()
    batcher = make_batcher(vlm, blocks(vlm, budget), token_gap=token_gap)
    made = [make_row(family.prompts[row["asked"]], row["new"]) for row in plan]
    step, busy = 0, True
    while busy or step <= 12:
        for row, planned in zip(made, plan, strict=True):
            if planned["arrives"] == step:
                batcher.submit(row)
            if planned["cancelled"] == step:
                row.future.cancel()
        busy = batcher.step()
        step += 1
    for row, planned in zip(made, plan, strict=True):
        if row.future.cancelled():
            assert planned["cancelled"] is not None
        else:
            expected = family.alone(planned["asked"])[: row.max_new_tokens]
            assert row.future.result(timeout=0).tokens == expected


@pytest.mark.parametrize("reuse", [0, 64])
def test_rows_that_give_way_again_and_again_get_it_too(family, reuse):
    vlm = family.models[reuse]
    vlm.most_tokens = 512
    largest = max(prompt.length for prompt in family.prompts)
    budget = 3 * (-(-largest // vlm.pool.block_size)) + 2
    batcher = make_batcher(vlm, blocks(vlm, budget), token_gap=0.0)
    prompts = len(family.prompts)
    made = [make_row(prompt, LONGEST) for prompt in family.prompts * 2]
    for row in made:
        batcher.submit(row)
    while batcher.step():
        if batcher.running_rows > 1 and batcher._scheduler.running:
            batcher._scheduler.preempt_youngest()
    assert batcher.preemptions > 10
    for number, row in enumerate(made):
        assert row.future.result(timeout=0).tokens == family.alone(number % prompts)
