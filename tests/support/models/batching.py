"""Rows and a batcher that is stepped by the test itself."""

from common.deadline import Deadline
from common.failures import ErrorCode, Refusal
from common.units import GIB
from runners.metrics import Metrics
from runners.vlm.batcher import Batcher
from runners.vlm.interface import Encoded
from runners.vlm.row import Row
from runners.vlm.sampling import GREEDY
from tests.support.models.text_vlm import TextVlm, encode


def make_batcher(vlm: TextVlm, kv_budget: int = GIB, **changes) -> Batcher:
    arguments = {"step_target": 60.0, "token_gap": 60.0, **changes}
    return Batcher(vlm, Metrics("test"), lambda held: kv_budget, **arguments)


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
