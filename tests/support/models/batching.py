"""Rows and a batcher that is stepped by the test itself."""

from collections.abc import Sequence

from common.deadline import Deadline
from common.failures import ErrorCode, Refusal
from common.units import GIB
from runners.metrics import Metrics
from runners.scheduling.row import GREEDY, Row
from runners.vlm.batcher import Batcher
from runners.vlm.interface import Encoded, Vlm
from tests.support.models.text_vlm import encode


def make_batcher(vlm: Vlm, kv_budget: int = GIB, **changes: float) -> Batcher:
    """Only one batcher at a time may use a model."""
    arguments = {"step_target": 60.0, "token_gap": 60.0, **changes}
    return Batcher(vlm, Metrics("test"), lambda held: kv_budget, **arguments)


def blocks(vlm: Vlm, count: int) -> int:
    """The bytes of so many blocks of the KV cache."""
    return count * vlm.pool.bytes_per_block


def answers(
    vlm: Vlm, prompts: Sequence[Encoded], new: int, together: bool = True, **changes: float
) -> list[list[int]]:
    """The tokens that a batcher makes of prompts, asked all at once or one after the other."""
    batcher = make_batcher(vlm, **changes)
    rows = [make_row(prompt, new) for prompt in prompts]
    for row in rows:
        batcher.submit(row)
        if not together:
            run(batcher)
    run(batcher)
    return [row.future.result(timeout=0).tokens for row in rows]


def make_row(
    text: bytes | Encoded = b"page", new: int = 20, seconds: float = 600, **changes
) -> Row:
    encoded = text if isinstance(text, Encoded) else encode(text)
    return Row(encoded, new, Deadline(seconds), **{"sampling": GREEDY, **changes})


def run(batcher: Batcher) -> None:
    while batcher.step():
        pass


def refusal(row: Row) -> ErrorCode:
    error = row.future.exception(timeout=0)
    assert isinstance(error, Refusal)
    return error.code
