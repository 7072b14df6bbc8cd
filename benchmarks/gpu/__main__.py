"""Checks and measures the engine of the vision-language models on this machine's GPU.

    python -m benchmarks.gpu [--tiny]

needs torch 2.11 or later with CUDA, transformers and this checkout, but no weights and no network.
On random models it prints, part by part:

- exact: whether rows that join and leave a batch get the tokens that the library's `generate` gives
  each alone, in every family, from graphs and without (float32, temperature 0);
- graphs: whether graphs compute what single launches do in bfloat16, and what a step launches;
- steps: the time of a decode step of a random Qwen3-VL 2B and 8B, beside the time that reading its
  weights and its KV cache takes at the copy bandwidth measured here;
- prefill: tokens a second of pages that are prefilled together, and how often the CPU waits for the
  device;
- schemes: tokens a second beside the library's `generate`, alone and in static batches;
- gaps: how long running rows wait for a token while pages of 4,000 tokens arrive;
- memory: what is answered when memory runs out, and what an unload gives back.

A part that fails says why in a sentence, and the others go on. The exit code is 0 if every part
passed. Targets are printed beside the figures and are not checked. `--tiny` runs the same on small
models, also without a GPU.
"""

import argparse
import sys
import time
import traceback
from collections.abc import Callable

import torch
from transformers.utils import logging

from benchmarks.gpu import machine
from benchmarks.gpu.exact import check_exact
from benchmarks.gpu.graphs import compare_graphs, count_launches
from benchmarks.gpu.memory import check_memory
from benchmarks.gpu.prefill import measure_prefill
from benchmarks.gpu.serving import compare_schemes, measure_token_gaps
from benchmarks.gpu.steps import measure_steps


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--tiny", action="store_true", help="small models, also without a GPU")
    tiny: bool = parser.parse_args().tiny
    if not (machine.CUDA or tiny):
        sys.exit("PyTorch sees no GPU here: install a build with CUDA and a driver, or use --tiny.")
    logging.disable_progress_bar()  # they would stand among the rows of the tables
    torch.backends.cuda.enable_cudnn_sdp(False)  # as the service does when it loads a model
    if not machine.CUDA:
        torch.set_num_threads(1)  # small models gain nothing by more
    began = time.monotonic()
    speed = machine.measure(tiny)
    parts: dict[str, Callable[[], None]] = {
        "exact": check_exact,
        "graphs": lambda: compare_graphs(tiny),
        "launches": lambda: count_launches(tiny),
        "steps of 2B": lambda: measure_steps("2B", tiny, speed),
        "steps of 8B": lambda: measure_steps("8B", tiny, speed),
        "prefill": lambda: measure_prefill(tiny, speed),
        "schemes": lambda: compare_schemes(tiny),
        "gaps": lambda: measure_token_gaps(tiny),
        "memory": lambda: check_memory(tiny),
    }
    failed = [name for name, part in parts.items() if not passes(name, part)]
    seconds = time.monotonic() - began
    print(
        f"\n{len(parts) - len(failed)} parts passed, {len(failed)} failed: "
        f"{', '.join(failed) or 'none'}; {seconds:.0f} s"
    )
    sys.exit(bool(failed))


def passes(name: str, part: Callable[[], None]) -> bool:
    """Runs a part. Returns whether it passed; otherwise a sentence says what is wrong."""
    print(f"\n## {name}\n", flush=True)
    began = time.monotonic()
    try:
        part()
    except AssertionError as wrong:
        print(f"FAILED: {wrong}", flush=True)
        return False
    except Exception as error:
        traceback.print_exc()
        print(f"FAILED: {name} ended with {type(error).__name__}: {error}", flush=True)
        return False
    finally:
        machine.free_memory()
    print(f"\n({time.monotonic() - began:.0f} s)", flush=True)
    return True


if __name__ == "__main__":
    main()
