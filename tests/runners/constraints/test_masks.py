import numpy as np
import pytest
import torch

from common.constraints.json_schemas import schema_grammar
from runners.constraints.guide import Guide
from runners.constraints.masks import MaskMaker, apply_masks
from tests.support.models.text_vlm import STOP, TextVlm

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def vlm():
    return TextVlm()


@pytest.fixture
def maker():
    return MaskMaker(CPU)


def allowed(masks: torch.Tensor, row: int) -> set[int]:
    bits = np.unpackbits(masks[row].numpy().view(np.uint8), bitorder="little")
    return set(np.flatnonzero(bits).tolist())


def test_a_step_without_guides_has_no_masks(maker):
    assert maker.make([None, None]) is None
    logits = torch.randn(2, 8)
    assert apply_masks(logits, None) is logits


def test_each_row_has_its_own_mask_and_a_free_row_may_go_on_with_all(maker, vlm):
    true = Guide(vlm.vocabulary, schema_grammar({"const": True}))
    digit = Guide(vlm.vocabulary, schema_grammar({"enum": [1, 2]}))
    masks = maker.make([None, true, None, digit])
    assert masks.shape == (4, 256 / 32)
    assert masks.dtype == torch.int32
    assert allowed(masks, 0) == allowed(masks, 2) == set(range(256))
    assert allowed(masks, 1) == {ord("t")}
    assert allowed(masks, 3) == {ord("1"), ord("2")}
    true.take(ord("t"))
    assert allowed(maker.make([true]), 0) == {ord("r")}


def test_a_stop_token_is_allowed_where_the_text_may_end(maker, vlm):
    guide = Guide(vlm.vocabulary, schema_grammar({"type": "integer"}))
    assert STOP not in allowed(maker.make([guide]), 0)
    guide.take(ord("1"))
    assert STOP in allowed(maker.make([guide]), 0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("vocabulary", [64, 77, 96])
def test_what_may_not_follow_has_no_likelihood_and_the_rest_is_as_it_was(dtype, vocabulary):
    torch.manual_seed(vocabulary)
    masks = torch.randint(-(2**31), 2**31, (5, 3), dtype=torch.int64).to(torch.int32)
    logits = torch.randn(5, vocabulary).to(dtype)
    before = logits.clone()
    applied = apply_masks(logits, masks)
    for row in range(5):
        may_follow = torch.tensor([token in allowed(masks, row) for token in range(vocabulary)])
        assert torch.equal(applied[row][may_follow], before[row][may_follow])
        assert (applied[row][~may_follow] == float("-inf")).all()
