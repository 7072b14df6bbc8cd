"""Rows in flight get their turn in every part of a vision tower, in every family."""

import importlib
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from runners.transformers_models import cut_operations
from settings import Settings
from tests.support.models.checkpoints import make_checkpoint
from tests.support.models.entries import listed
from tests.support.models.prompts import ocr, page

MODELS = ["qwen_vl_2b", "qwen2_5_vl_3b", "qwen3_vl_2b", "got_ocr", "dots_ocr"]
PATCHES = 432
"""Of the page, in the model that makes the fewest of it."""
LONG = {"scaled_dot_product_attention", "matmul", "gelu", "silu", "sigmoid", "softmax", "embedding"}
LONG |= {"_linear_pointwise", "linear", "addmm", "mm"}
"""Operations that take long for a page."""


class Operations(TorchDispatchMode):
    """Notes the operations that compute something, between two calls of a function."""

    def __init__(self) -> None:
        super().__init__()
        self.between: list[list[str]] = [[]]
        self.rows: dict[str, int] = {}
        """The most rows of a result, by operation."""

    def called(self) -> None:
        self.between.append([])

    def __torch_dispatch__(
        self,
        operation: Callable[..., Any],
        types: object,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        made = operation(*args, **(kwargs or {}))
        name = str(operation).split(".")[1]
        if isinstance(made, Tensor) and not operation.is_view:
            self.between[-1].append(name)
            rows = made.shape[:-1].numel()
            self.rows[name] = max(self.rows.get(name, 0), rows)
        return made


@pytest.fixture(scope="module", params=MODELS)
def vlm(request, tmp_path_factory):
    torch.set_num_threads(1)
    weights = tmp_path_factory.mktemp("weights")
    make_checkpoint(request.param, weights / request.param)
    with listed(request.param) as entry:
        family = importlib.import_module(f"runners.families.{entry.family}")
        yield family.load(entry, Settings(weights=weights, dtype="float32", reuse_mib=0))


@pytest.fixture
def seen(vlm, monkeypatch):
    """The visual tokens of a page, without a function and with one, and the operations noted."""
    encoded = vlm.encode(ocr(page(300, 400)))
    noted = Operations()
    with torch.inference_mode():
        (whole,) = vlm.encode_images([encoded], None)
        monkeypatch.setattr(cut_operations, "_MOST", 256)
        monkeypatch.setattr(cut_operations, "_PRODUCTS", 16)
        monkeypatch.setattr(cut_operations, "_QUERIES", 16)
        with noted:
            (sliced,) = vlm.encode_images([encoded], noted.called)
    return whole, sliced, noted


def test_the_function_is_called_after_every_few_operations_from_the_first_to_the_last(seen):
    _, _, noted = seen
    assert max(len(names) for names in noted.between) <= 3


def test_no_long_operation_computes_the_rows_of_a_page_at_once(seen):
    _, _, noted = seen
    long = {name: rows for name, rows in noted.rows.items() if name in LONG}
    assert len(long) >= 4
    assert max(long.values()) < PATCHES / 2, long


def test_the_visual_tokens_are_the_same(seen):
    whole, sliced, _ = seen
    torch.testing.assert_close(sliced.tokens, whole.tokens, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(sliced.added, whole.added, rtol=1e-5, atol=1e-5)
