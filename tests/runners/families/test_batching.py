"""Rows with images in one batch. What a row gets alone is held against the library's `generate` in
each family's own tests."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from common.catalog import CATALOG
from common.deadline import Deadline
from runners.families import got_ocr, qwen_vl
from runners.metrics import Metrics
from runners.vlm.batcher import Batcher
from runners.vlm.kv_cache import KvCache
from runners.vlm.row import Row
from runners.vlm.sampling import GREEDY
from settings import Settings
from tests.support.models.checkpoints import make_checkpoint
from tests.support.models.greedy import greedy
from tests.support.models.prompts import chat, ocr, page, talk

SIZES = ((64, 64), (200, 120), (150, 330))
LONGEST = 24


@pytest.fixture(scope="module", params=["qwen_vl_2b", "qwen3_vl_2b", "got_ocr"])
def family(request, tmp_path_factory):
    """A model and, of each request to it, the encoded prompt and the tokens it gets alone."""
    folder = make_checkpoint(request.param, tmp_path_factory.mktemp("weights") / request.param)
    entry = CATALOG[request.param]
    module = got_ocr if request.param == "got_ocr" else qwen_vl
    vlm = module.load(entry, Settings(weights=folder.parent, dtype="float32"))
    asked = [
        vlm.encode(prompt)
        for image in (page(*size) for size in SIZES)
        for prompt in (
            chat(image, "What is this?"),
            ocr(image),
            chat(image, "And the total, without tax?"),
        )
    ]
    if entry.converses:
        first, second = page(64, 64), page(200, 120, seed=1)
        asked[-2:] = [
            vlm.encode(talk(("user", first, second, "What differs?"))),
            vlm.encode(talk(("user", "The quick"), ("assistant", "fox"), ("user", "jumps"))),
        ]
    return vlm, [(encoded, greedy(vlm, encoded, LONGEST)) for encoded in asked]


rows = st.fixed_dictionaries(
    {
        "asked": st.integers(0, 3 * len(SIZES) - 1),
        "new": st.integers(1, LONGEST),
        "arrives": st.integers(0, 12),
        "cancelled": st.one_of(st.none(), st.none(), st.integers(1, 20)),
    }
)


@settings(
    max_examples=15,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
)
@given(plan=st.lists(rows, min_size=3, max_size=8), column_chunk=st.sampled_from([16, 256]))
def test_every_row_gets_what_it_gets_alone(family, plan, column_chunk):
    vlm, asked = family
    batcher = Batcher(vlm, Metrics("test"), lambda held: 2**30, 60.0, KvCache(2, column_chunk))
    made = [Row(asked[row["asked"]][0], row["new"], Deadline(600), GREEDY) for row in plan]
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
            alone = asked[planned["asked"]][1][: row.max_new_tokens]
            kept = [token for token in alone if token not in vlm.stop_tokens]
            assert row.future.result(timeout=0).tokens == kept
