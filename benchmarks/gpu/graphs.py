"""Whether CUDA graphs compute what single launches do, and what a step launches."""

from collections import Counter
from collections.abc import Sequence

from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from benchmarks.gpu.machine import CUDA, DEVICE, synchronize
from benchmarks.gpu.rows import fill, make_prompts, use_graphs
from benchmarks.support.large_qwen import make_model
from runners.decoder.part import Part

_ROWS = 8
_STEPS = 30
_PROFILED = 3
_ROUNDING = 0.05
"""Largest share by which logits in bfloat16 may differ: more is no rounding."""
_WAITS = ("cudaStreamSynchronize", "cudaDeviceSynchronize", "cudaEventSynchronize")


def compare_graphs(tiny: bool) -> None:
    """Raises `AssertionError` if graphs make other logits than the same step without them."""
    vlm = make_model("2B", tiny, DEVICE)
    use_graphs(vlm, True)
    from_graphs = vlm.decode_step
    use_graphs(vlm, False)
    without = vlm.decode_step
    equal: list[float] = []
    differences: list[float] = []

    def both(tokens: Sequence[int], positions: Sequence[int], parts: Sequence[Part]) -> Tensor:
        plain = without(tokens, positions, parts).float()
        logits = from_graphs(tokens, positions, parts)
        equal.append(float((plain.argmax(-1) == logits.argmax(-1)).float().mean()))
        distances = (logits.float() - plain).norm(dim=-1) / plain.norm(dim=-1)
        differences.append(float(distances.max()))
        return logits

    vlm.decode_step = both
    batcher, _ = fill(vlm, make_prompts(vlm, _ROWS, tiny))
    for _ in range(_STEPS):
        batcher.step()
    batcher.close()
    print(
        f"{_ROWS} rows in {vlm.dtype}: {sum(equal) / len(equal):.2%} of the tokens are equal from "
        f"graphs and without; logits differ by at most {max(differences):.3%}"
    )
    assert max(differences) <= _ROUNDING, "graphs compute other logits than single launches"


def count_launches(tiny: bool) -> None:
    vlm = make_model("2B", tiny, DEVICE)
    prompts = make_prompts(vlm, _ROWS, tiny)
    print(f"A step of {_ROWS} rows of the 2B\n")
    print("| | graph launches | kernel launches | copies | waits | operations |")
    print("|---|---|---|---|---|---|")
    busiest = ""
    for name, graphs in (("from graphs", True), ("without graphs", False)):
        use_graphs(vlm, graphs)
        batcher, _ = fill(vlm, prompts)
        for _ in range(_PROFILED):
            batcher.step()
        synchronize()
        activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if CUDA else [])]
        with profile(activities=activities) as profiled:
            for _ in range(_PROFILED):
                batcher.step()
        batcher.close()
        counts: Counter[str] = Counter()
        for event in profiled.key_averages():
            counts[_kind(event.key)] += event.count
        kinds = ("graph", "kernel", "copy", "wait", "operation")
        cells = " | ".join(f"{counts[kind] / _PROFILED:.0f}" for kind in kinds)
        print(f"| {name} | {cells} |", flush=True)
        if graphs and CUDA:
            busiest = profiled.key_averages().table(
                sort_by="cuda_time_total", row_limit=12, max_name_column_width=60
            )
    if CUDA:
        print(f"\nThe step from graphs:\n\n{busiest}")


def _kind(event: str) -> str:
    if "GraphLaunch" in event:
        return "graph"
    if "LaunchKernel" in event:
        return "kernel"
    if event.startswith(("cudaMemcpy", "cudaMemset")):
        return "copy"
    if event in _WAITS:
        return "wait"
    return "operation" if event.startswith("aten::") else "other"
