"""Memory, error and speed of a model whose weights are quantised while they are loaded.

    python -m benchmarks.quantised [--weights FOLDER] [--model ID]

prints for bfloat16, int8 and int4: the memory of the weights, how far the first logits of pages are
from those of bfloat16, the share of greedy tokens before the first that differs, the time of a
decode step with 1 and 16 rows, and that of a prefill. By default the model is a random Qwen3-VL of
123M parameters. Its error compares the two, and says nothing of how well a trained model reads;
with --weights it is a real one.
"""

import argparse
import importlib
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from benchmarks.support.random_qwen import MODEL, make_weights
from common.catalog import CATALOG, current_id
from common.units import MIB
from runners.decoder.part import Part
from runners.torch_threads import in_own_thread
from runners.transformers_models.transformers_vlm import TransformersVlm
from runners.vlm.interface import Encoded, RowPart
from settings import Settings, settings
from tests.support.models.greedy import first_logits, greedy
from tests.support.models.prompts import ocr, page

SIDES = ((320, 480), (500, 300))
"""Of the pages, pixels."""
NEW_TOKENS = 16
ROWS = (1, 16)
REPEATS = 7

Quantise = Literal["int8", "int4"]

VARIANTS: tuple[Quantise | None, ...] = (None, "int8", "int4")
"""Of the setting CHATVLM_QUANTIZE; the first is what the others are compared with."""


@dataclass(frozen=True)
class Read:
    """What a model makes of the pages."""

    logits: list[Tensor]
    tokens: list[list[int]]


def measure(model: str, weights: Path | None) -> None:
    exact: Read | None = None
    columns = " | ".join(f"step of {rows}, ms" for rows in ROWS)
    print(f"| weights | MiB | error | equal tokens | {columns} | prefill, ms |")
    print("|---|---|---|---|" + "---|" * (len(ROWS) + 1))
    for variant in VARIANTS:
        vlm = _load(model, weights, variant)
        read = _read(vlm)
        exact = exact or read
        prompt = vlm.encode(ocr(page(*SIDES[0])))
        steps = " | ".join(f"{_step_ms(vlm, prompt, rows):.1f}" for rows in ROWS)
        print(
            f"| {variant or 'bfloat16'} | {vlm.weights_bytes / MIB:.0f} | "
            f"{_error(exact.logits, read.logits):.1%} | {_equal(exact.tokens, read.tokens):.0%} | "
            f"{steps} | {_median_ms(lambda: first_logits(vlm, prompt)):.0f} |",  # noqa: B023
            flush=True,
        )


def _load(model: str, weights: Path | None, quantise: Quantise | None) -> TransformersVlm:
    entry = CATALOG[model]
    family = importlib.import_module(f"runners.families.{entry.family}")
    used = Settings(weights=weights, dtype="bfloat16", quantize=quantise, reuse_mib=0)
    vlm: TransformersVlm = family.load(entry, used)
    return vlm


def _read(vlm: TransformersVlm) -> Read:
    prompts = [vlm.encode(ocr(page(*size, seed=seed))) for seed, size in enumerate(SIDES)]
    return Read(
        [first_logits(vlm, prompt).float().cpu() for prompt in prompts],
        [greedy(vlm, prompt, NEW_TOKENS) for prompt in prompts],
    )


def _error(exact: Sequence[Tensor], own: Sequence[Tensor]) -> float:
    """Of the logits, relative to the exact ones."""
    pairs = zip(exact, own, strict=True)
    return statistics.mean(float((b - a).norm() / a.norm()) for a, b in pairs)


def _equal(exact: Sequence[Sequence[int]], own: Sequence[Sequence[int]]) -> float:
    """The share of tokens before the first one that differs, over all pages."""
    same, total = 0, 0
    for one, other in zip(exact, own, strict=True):
        total += len(one)
        same += next(
            (i for i, pair in enumerate(zip(one, other, strict=False)) if pair[0] != pair[1]),
            min(len(one), len(other)),
        )
    return same / total


def _step_ms(vlm: TransformersVlm, prompt: Encoded, rows: int) -> float:
    """Of a step of so many rows, each with the columns of the prompt."""
    blocks = -(-(prompt.length + 1) // vlm.pool.block_size)
    vlm.pool.resize(0, [])
    vlm.pool.resize(rows * blocks, [])
    parts = [
        RowPart(prompt, [0], Part(list(range(row * blocks, (row + 1) * blocks)), prompt.length, 1))
        for row in range(rows)
    ]
    return _median_ms(lambda: vlm.decode(parts))


def _median_ms(work: Callable[[], object]) -> float:
    work()
    times = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        work()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        times.append(time.perf_counter() - began)
    return statistics.median(times) * 1000


def main() -> None:
    settings()  # adds the models of CHATVLM_CATALOG
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "--weights", type=Path, help="as CHATVLM_WEIGHTS; a random model by default"
    )
    parser.add_argument("--model", type=current_id, default=MODEL)
    arguments = parser.parse_args()
    if arguments.weights is not None:
        in_own_thread(lambda: measure(arguments.model, arguments.weights))
        return
    with tempfile.TemporaryDirectory() as folder:
        in_own_thread(lambda: make_weights(Path(folder)))
        in_own_thread(lambda: measure(MODEL, Path(folder)))


if __name__ == "__main__":
    main()
