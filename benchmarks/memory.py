"""Memory of a runner before its model is loaded, while it serves, and after it is unloaded.

    python -m benchmarks.memory

loads a random Qwen3-VL of 123M parameters as its runner does, asks it eight questions at once and
unloads it, three times. On the CPU it counts the resident memory of the process, in which PyTorch
is imported (an idle runner has not imported it; the first load adds code and kernels that stay). On
a GPU it counts what PyTorch has reserved.
"""

import argparse
import asyncio
import tempfile
from pathlib import Path

import psutil  # type: ignore[import-untyped]
import torch

from benchmarks.support.random_qwen import MODEL, make_requests, make_weights
from common.catalog import CATALOG
from common.deadline import Deadline
from common.messages import Request, single_turn
from common.units import MIB
from runners.torch_threads import in_own_thread
from runners.vlm.engine import VlmEngine
from settings import Settings

ROUNDS = 3
QUESTIONS = 8
TIME_LIMIT = 600


async def main(weights: Path) -> None:
    engine = VlmEngine(CATALOG[MODEL], Settings(weights=weights, dtype="float32"))
    requests = [
        Request(
            task="chat",
            turns=single_turn([asked.png], asked.prompt),
            max_tokens=asked.new_tokens,
            temperature=0,
        )
        for asked in make_requests(QUESTIONS, (16, 32), (300, 640))
    ]
    print("| before, MiB | serving, MiB | unloaded, MiB | unloaded / before |\n|---|---|---|---|")
    for _ in range(ROUNDS):
        before = held_mib()
        await engine.load()
        await asyncio.gather(
            *(engine.answer(request, Deadline(TIME_LIMIT)) for request in requests)
        )
        serving = held_mib()
        await engine.unload()
        after = held_mib()
        print(f"| {before:.0f} | {serving:.0f} | {after:.0f} | {after / max(before, 1):.3f} |")
    await engine.close()


def held_mib() -> float:
    if torch.cuda.is_available():
        return sum(map(torch.cuda.memory_reserved, range(torch.cuda.device_count()))) / MIB
    return float(psutil.Process().memory_info().rss) / MIB


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__.split("\n")[0]).parse_args()
    with tempfile.TemporaryDirectory() as folder:
        in_own_thread(lambda: make_weights(Path(folder)))
        asyncio.run(main(Path(folder)))
