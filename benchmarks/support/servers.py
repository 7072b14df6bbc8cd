"""Servers that the benchmarks start: this project's, and others to compare it with."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import aiohttp

from benchmarks.support.random_qwen import MODEL
from tests.support.server import Server, free_port

START_SECONDS = 600
"""vLLM compiles a model on its first start."""
TIME_LIMIT = 3600
"""Seconds that a request may take: longer than any benchmark."""


@contextmanager
def bento(
    weights: Path, dtype: str, threads: int, target: str, reuse_mib: float = 0
) -> Iterator[str]:
    with Server(
        target=target,
        threads=threads,
        models=MODEL,
        weights=weights,
        dtype=dtype,
        request_timeout=TIME_LIMIT,
        reuse_mib=reuse_mib,
    ) as server:
        yield str(server.client.base_url)


@contextmanager
def transformers_serve(folder: Path, dtype: str, threads: int) -> Iterator[str]:
    program = str(Path(sys.executable).with_name("transformers"))
    command = [program, "serve", str(folder), "--dtype", dtype]
    environment = {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": str(threads)}
    with serving(command, environment) as url:
        yield url


@contextmanager
def serving(command: Sequence[str], environment: Mapping[str, str]) -> Iterator[str]:
    """Runs a server that takes `--host` and `--port`, until the context ends. Yields its URL."""
    port = free_port()
    process = subprocess.Popen(
        [*command, "--host", "127.0.0.1", "--port", str(port)],
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        url = f"http://127.0.0.1:{port}"
        asyncio.run(until_healthy(url, process))
        yield url
    finally:
        process.terminate()
        process.wait()


async def until_healthy(url: str, process: subprocess.Popen[bytes]) -> None:
    """Raises `RuntimeError` if the server ends before it answers."""
    async with asyncio.timeout(START_SECONDS), aiohttp.ClientSession(url) as http:
        while process.poll() is None:
            try:
                async with http.get("/health") as response:
                    if response.status == 200:
                        return
            except aiohttp.ClientError:
                pass
            await asyncio.sleep(0.2)
    raise RuntimeError(f"{process.args!r} ended with code {process.returncode}")
