"""This project's engine and vLLM, in process and over HTTP, as things that answer batches alike."""

import asyncio
import json
import os
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp

from benchmarks.support.clients import Send, Start, all_in_time, ask_openai, ask_service
from benchmarks.support.in_process import ask_engine, make_engine
from benchmarks.support.random_qwen import MODEL, Asked
from benchmarks.support.servers import bento, serving
from settings import Settings
from tests.support.server import ROOT

PEERS = ROOT / ".venv-peers"
PROGRAM = ROOT / "benchmarks/peers/vllm_in_process.py"
REUSE_MIB = float(Settings.model_fields["reuse_mib"].default)
LONGEST = 4096
"""Most tokens of a prompt with its answer, for vLLM."""
KV_GIB = 2
"""Memory of vLLM's KV cache: some 87,000 tokens in float32, more than any batch has."""

Batch = Sequence[Asked]
"""Requests that are all there at the start."""


@dataclass(frozen=True)
class Run:
    """A batch that was answered in full."""

    seconds: float
    prompt_tokens: tuple[int, ...] = ()
    """Of each request; empty where the side does not say."""


Side = Callable[[Sequence[Batch], bool], list[Run]]
"""Loads the model anew and answers the batches one after the other, with its caches on or off."""


@dataclass(frozen=True)
class Setup:
    """What both sides have in common."""

    weights: Path
    dtype: str
    threads: int


class PeerMissing(Exception):
    """Raised if the environment of vLLM is not there. Says how it is made."""


def require_vllm() -> None:
    """Raises `PeerMissing`."""
    if not (PEERS / "ready").exists():
        raise PeerMissing(f"vLLM is not installed in {PEERS}: run `make peers` first.")


def ours_in_process(setup: Setup) -> Side:
    async def answer(batches: Sequence[Batch], caches: bool) -> list[Run]:
        engine = make_engine(setup.weights, setup.dtype, REUSE_MIB if caches else 0)
        runs = []
        for batch in batches:
            prompts = dict[int, int]()

            async def ask(asked: Asked, prompts: dict[int, int] = prompts) -> int:
                usage = await ask_engine(engine, asked)
                prompts[id(asked)] = usage.prompt_tokens
                return exactly(asked, usage.completion_tokens)

            measured = await all_in_time(ask, batch, [0.0] * len(batch))
            runs.append(Run(measured.seconds, tuple(prompts[id(asked)] for asked in batch)))
        await engine.unload()
        await engine.close()
        return runs

    return lambda batches, caches: asyncio.run(answer(batches, caches))


def vllm_in_process(setup: Setup) -> Side:
    def answer(batches: Sequence[Batch], caches: bool) -> list[Run]:
        with tempfile.TemporaryDirectory() as folder:
            work = Path(folder) / "work.json"
            model = {"model": str(setup.weights / MODEL), "dtype": setup.dtype}
            model |= {name.replace("-", "_"): value for name, value in vllm_options(caches).items()}
            batched = [[written(asked, Path(folder)) for asked in batch] for batch in batches]
            work.write_text(json.dumps({"model": model, "batches": batched}), "utf-8")
            # The engine in a process of its own would only compete for the same cores.
            alone = {"VLLM_ENABLE_V1_MULTIPROCESSING": "0"}
            done = subprocess.run(
                [str(PEERS / "bin/python"), str(PROGRAM), str(work)],
                env={**os.environ, **vllm_environment(setup.threads), **alone},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
            )
        if done.returncode:
            raise RuntimeError(f"vLLM ended with code {done.returncode}:\n{done.stderr}")
        return parsed(done.stdout)

    return answer


def parsed(printed: str) -> list[Run]:
    """The runs of the last line that `vllm_in_process.py` printed."""
    return [
        Run(run["seconds"], tuple(run["prompt_tokens"]))
        for run in json.loads(printed.splitlines()[-1])
    ]


def written(asked: Asked, folder: Path) -> dict[str, Any]:
    """The request as `vllm_in_process.py` takes it, its image as a file in the folder."""
    image = folder / f"{id(asked.image)}.png"
    if not image.exists():
        image.write_bytes(asked.png)
    return {"image": str(image), "prompt": asked.prompt, "new_tokens": asked.new_tokens}


def ours_over_http(setup: Setup) -> Side:
    def start(caches: bool) -> Start:
        reuse_mib = REUSE_MIB if caches else 0
        return lambda: bento(
            setup.weights, setup.dtype, setup.threads, "service:service", reuse_mib
        )

    return over_http(start, ask_service)


def vllm_over_http(setup: Setup) -> Side:
    send = partial(ask_openai, model=MODEL, temperature=0, ignore_eos=True)
    return over_http(lambda caches: lambda: vllm_serve(setup, caches), send)


def over_http(start: Callable[[bool], Start], send: Send) -> Side:
    async def answer(url: str, batches: Sequence[Batch]) -> list[Run]:
        timeout = aiohttp.ClientTimeout(None)
        async with aiohttp.ClientSession(url, timeout=timeout) as http:

            async def ask(asked: Asked) -> int:
                return exactly(asked, await send(http, asked))

            return [
                Run((await all_in_time(ask, batch, [0.0] * len(batch))).seconds)
                for batch in batches
            ]

    def run(batches: Sequence[Batch], caches: bool) -> list[Run]:
        with start(caches)() as url:
            return asyncio.run(answer(url, batches))

    return run


def exactly(asked: Asked, made: int) -> int:
    if made != asked.new_tokens:
        raise RuntimeError(f"{made} tokens were made instead of {asked.new_tokens}")
    return made


@contextmanager
def vllm_serve(setup: Setup, caches: bool) -> Iterator[str]:
    # Its command `vllm` asks for a distribution of that name, which the CPU build is not.
    command = [str(PEERS / "bin/python"), "-m", "vllm.entrypoints.openai.api_server"]
    command += ["--model", str(setup.weights / MODEL), "--served-model-name", MODEL]
    for name, value in {"dtype": setup.dtype, **vllm_options(caches)}.items():
        if isinstance(value, bool):
            command.append(f"--{name}" if value else f"--no-{name}")
        else:
            command += [f"--{name}", value if isinstance(value, str) else json.dumps(value)]
    with serving(command, vllm_environment(setup.threads)) as url:
        yield url


def vllm_options(caches: bool) -> dict[str, Any]:
    """What vLLM is told beyond the checkpoint, under the names of its command line."""
    return {
        "max-model-len": LONGEST,
        "max-num-seqs": 16,
        "limit-mm-per-prompt": {"image": 1, "video": 0},
        # It would otherwise encode the largest possible image while it starts, for minutes.
        "skip-mm-profiling": True,
        "enable-prefix-caching": caches,
        "mm-processor-cache-gb": 4 if caches else 0,  # 4 is its default
    }


def vllm_environment(threads: int) -> Mapping[str, str]:
    cores = sorted(os.sched_getaffinity(0))[:threads]
    return {
        "HF_HUB_OFFLINE": "1",
        "DO_NOT_TRACK": "1",
        "VLLM_LOGGING_LEVEL": "ERROR",
        "VLLM_CACHE_ROOT": str(PEERS / "cache"),  # what it has compiled
        "VLLM_CPU_KVCACHE_SPACE": str(KV_GIB),
        # As many threads as ours, one a core. Unset, its server would leave a core idle.
        "OMP_NUM_THREADS": str(threads),
        "VLLM_CPU_OMP_THREADS_BIND": ",".join(map(str, cores)),
    }
