"""Checks and measures the engine of the vision-language models on this machine's GPU.

    python -m benchmarks.gpu [--tiny]

needs torch with CUDA, transformers and this checkout, but no weights and no network. On random
models it prints, part by part:

- exact: whether rows that join and leave a batch get the tokens that each gets alone, in every
  family (float32, temperature 0);
- steps: the time of a decode step of a random Qwen3-VL 2B and 8B, beside the time that reading its
  weights and its KV cache takes at the copy bandwidth measured here;
- launches: kernels that a step starts, and where its time goes;
- prefill: tokens a second of a page, and how often the CPU waits for the device;
- memory: what an unload gives back, and what is answered when memory runs out.

A part that fails prints why, and the others go on. The exit code is 0 if every part passed.
`--tiny` runs the same on small models, also without a GPU.
"""

import argparse
import gc
import importlib
import math
import statistics
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks.support.large_qwen import make_model
from benchmarks.support.random_qwen import make_requests
from benchmarks.support.schemes import make_batcher, make_row
from common.catalog import CATALOG
from common.deadline import Deadline
from common.units import GIB
from runners.families.qwen_vl import QwenVl
from runners.vlm.batcher import Batcher
from runners.vlm.interface import Encoded, Vlm
from runners.vlm.kv_cache import KvCache
from runners.vlm.row import Row
from runners.vlm.sampling import GREEDY
from settings import Settings
from tests.support.models.checkpoints import make_checkpoint
from tests.support.models.prompts import ocr, page

FAMILIES = ("qwen3_vl_2b", "qwen_vl_2b", "got_ocr", "dots_ocr")
PAGE_SIDES = (900, 1000)
"""Pixels of the sides of a page; about 900 visual tokens."""
STEPS = 30
CUDA = torch.cuda.is_available()
DEVICE = "cuda" if CUDA else "cpu"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--tiny", action="store_true", help="small models, also without a GPU")
    tiny: bool = parser.parse_args().tiny
    if not (CUDA or tiny):
        sys.exit("PyTorch sees no GPU here: install a build with CUDA and a driver, or use --tiny.")
    torch.backends.cuda.enable_cudnn_sdp(False)  # as the service does when it loads a model
    bandwidth = measure_machine()
    counts = (1, 4) if tiny else (1, 8, 32, 128)
    parts: dict[str, Callable[[], None]] = {
        "exact": check_exact,
        "steps of 2B": lambda: measure_steps("2B", tiny, counts, bandwidth),
        "launches": lambda: count_launches(tiny),
        "prefill": lambda: measure_prefill(tiny),
        "memory": lambda: check_memory(tiny),
    }
    if not tiny:
        parts["steps of 8B"] = lambda: measure_steps("8B", tiny, counts, bandwidth)
    failed = [name for name, part in parts.items() if not passes(name, part)]
    print(f"\n{len(parts) - len(failed)} parts passed, {len(failed)} failed {failed or ''}")
    sys.exit(bool(failed))


def passes(name: str, part: Callable[[], None]) -> bool:
    print(f"\n## {name}\n", flush=True)
    try:
        part()
    except Exception:
        traceback.print_exc()
        return False
    return True


def measure_machine() -> float:
    """Prints what the machine can do. Returns its copy bandwidth, bytes a second."""
    print(f"torch {torch.__version__}, CUDA {torch.version.cuda}")
    if not CUDA:
        return math.nan
    print(f"{torch.cuda.get_device_name()}, cuDNN {torch.backends.cudnn.version()}")
    source = torch.empty(GIB, dtype=torch.bfloat16, device=DEVICE)
    target = torch.empty_like(source)
    bandwidth = 2 * source.nbytes / timed(lambda: target.copy_(source))
    matrix = torch.randn(8192, 8192, dtype=torch.bfloat16, device=DEVICE)
    products = 2 * 8192**3 / timed(lambda: matrix @ matrix)
    print(f"copies {bandwidth / 1e12:.2f} TB/s, bfloat16 products {products / 1e12:.0f} TFLOP/s")
    return bandwidth


def timed(work: Callable[[], object], times: int = 10) -> float:
    """The median time of some work on the device, seconds; the first three are not counted."""
    found = []
    for _ in range(times + 3):
        synchronize()
        began = time.perf_counter()
        work()
        synchronize()
        found.append(time.perf_counter() - began)
    return statistics.median(found[3:])


def synchronize() -> None:
    if CUDA:
        torch.cuda.synchronize()


def fill(
    vlm: QwenVl, cache: KvCache, rows: int, new_tokens: int = 400
) -> tuple[Batcher, list[Row]]:
    """A batcher with rows that wait; one is prefilled at each step."""
    batcher = make_batcher(vlm, cache)
    made = [make_row(vlm, a) for a in make_requests(rows, (new_tokens, new_tokens), PAGE_SIDES)]
    for row in made:
        row.repetition.add = lambda token: None  # type: ignore[method-assign]  # random text loops
        batcher.submit(row)
    return batcher, made


def measure_steps(size: str, tiny: bool, counts: Sequence[int], bandwidth: float) -> None:
    vlm = make_model(size, tiny, DEVICE)
    print(f"{vlm.weights_bytes / GIB:.2f} GiB of weights\n")
    print("| rows | columns | step, ms | longest, ms | bandwidth alone, ms | step / bandwidth |")
    print("|---|---|---|---|---|---|")
    for count in counts:
        cache = KvCache()
        batcher, _ = fill(vlm, cache, count)
        for _ in range(count + 3):
            batcher.step()
        times = []
        for _ in range(STEPS):
            synchronize()
            began = time.perf_counter()
            batcher.step()
            synchronize()
            times.append(1000 * (time.perf_counter() - began))
        read = vlm.weights_bytes + sum(cache.lengths) * cache.bytes_per_token
        floor, step = 1000 * read / bandwidth, statistics.median(times)
        columns = statistics.mean(cache.lengths)
        print(
            f"| {count} | {columns:.0f} | {step:.1f} | {max(times):.1f} | {floor:.1f} "
            f"| {step / floor:.2f} |",
            flush=True,
        )
        batcher.close()


def count_launches(tiny: bool) -> None:
    vlm = make_model("2B", tiny, DEVICE)
    batcher, _ = fill(vlm, KvCache(), 8)
    for _ in range(12):
        batcher.step()
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if CUDA else [])]
    with profile(activities=activities) as profiled:
        for _ in range(3):
            batcher.step()
        synchronize()
    batcher.close()
    events = profiled.key_averages()
    launches = sum(e.count for e in events if "LaunchKernel" in e.key or "GraphLaunch" in e.key)
    operations = sum(e.count for e in events if e.key.startswith("aten::"))
    print(f"a step of 8 rows: {launches / 3:.0f} launches, {operations / 3:.0f} operations\n")
    order = "cuda_time_total" if CUDA else "self_cpu_time_total"
    print(events.table(sort_by=order, row_limit=12, max_name_column_width=60))


def measure_prefill(tiny: bool) -> None:
    print("| kept for reuse | tokens | ms | tokens/s | waits for the device |")
    print("|---|---|---|---|---|")
    for reuse_mib in (0, 512):
        vlm = make_model("2B", tiny, DEVICE, reuse_mib)
        [asked] = make_requests(1, (4, 4), PAGE_SIDES)
        encoded = make_row(vlm, asked).encoded

        def miss(vlm: QwenVl = vlm, encoded: Encoded = encoded) -> None:
            vlm.prefill(encoded)
            vlm.forget()

        seconds = timed(miss)
        print(
            f"| {reuse_mib} MiB | {encoded.length} | {1000 * seconds:.0f} "
            f"| {encoded.length / seconds:.0f} | {waits_of(miss)} |",
            flush=True,
        )


def waits_of(work: Callable[[], object]) -> int:
    """How often the CPU waits for the device in some work; 0 without a GPU."""
    if not CUDA:
        work()
        return 0
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            work()
        finally:
            torch.cuda.set_sync_debug_mode("default")
    return sum("synchroniz" in str(warning.message) for warning in seen)


def check_exact() -> None:
    """Raises `AssertionError` if a row's tokens depend on the rows beside it."""
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder)
        settings = Settings(weights=weights, dtype="float32", reuse_mib=0)
        wrong = []
        for model in FAMILIES:
            make_checkpoint(model, weights / model)
            entry = CATALOG[model]
            family = importlib.import_module(f"runners.families.{entry.family}")
            vlm: Vlm = family.load(entry, settings)
            pages = [page(200 + 60 * n, 150 + 40 * n, n) for n in range(6)]
            encoded = [vlm.encode(ocr(picture)) for picture in pages]
            alone = [decoded(vlm, [one])[0] for one in encoded]
            equal = decoded(vlm, encoded) == alone
            print(f"{model} on {vlm.device}: {'equal' if equal else 'DIFFERENT'}", flush=True)
            if not equal:
                wrong.append(model)
        assert not wrong, f"tokens depend on the rows beside a row: {', '.join(wrong)}"


def decoded(vlm: Vlm, prompts: Sequence[Encoded]) -> list[list[int]]:
    """The tokens of rows of which one joins at every second step."""
    batcher = make_batcher(vlm, KvCache())
    rows = [Row(prompt, 24, Deadline(math.inf), GREEDY) for prompt in prompts]
    for row in rows:
        batcher.submit(row)
        batcher.step()
        batcher.step()
    while not all(row.future.done() for row in rows):
        batcher.step()
    batcher.close()
    return [row.future.result().tokens for row in rows]


def check_memory(tiny: bool) -> None:
    """Raises `AssertionError` if no row is answered once memory runs out, or some never ends."""
    if not CUDA:
        print("no GPU: nothing to fill")
        return
    before = torch.cuda.memory_allocated()
    vlm = make_model("2B", tiny, DEVICE)
    batcher, rows = fill(vlm, KvCache(), 24, new_tokens=200)
    free, _ = torch.cuda.mem_get_info()
    filler = torch.empty(max(free - 2 * GIB, 0), dtype=torch.uint8, device=DEVICE)
    steps = 0
    while not all(row.future.done() for row in rows) and steps < 6000:
        batcher.step()
        steps += 1
    ended = [row for row in rows if row.future.done()]
    answered = [row for row in ended if row.future.exception() is None]
    print(f"with 2 GiB left, {len(answered)} of {len(rows)} rows were answered in {steps} steps")
    batcher.close()
    del filler, batcher, vlm
    gc.collect()
    torch.cuda.empty_cache()
    after = torch.cuda.memory_allocated()
    print(f"allocated before {before / GIB:.2f} GiB, after the unload {after / GIB:.2f} GiB")
    assert len(ended) == len(rows), "some rows never ended"
    assert answered, "no row was answered"


if __name__ == "__main__":
    main()
