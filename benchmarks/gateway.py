"""The gateway's own cost: a JPEG of 1 MiB and a runner that answers at once.

python -m benchmarks.gateway
"""

import argparse
import asyncio
import io
import statistics
import time

import aiohttp
import numpy as np
from PIL import Image

from tests.support.server import Server

REQUESTS = 1_000
"""Requests that are measured with each number of clients."""
CLIENTS = (1, 8, 32)


def jpeg(size: int = 2**20) -> bytes:
    """Noise of about `size` bytes."""
    side = round((size / 0.786) ** 0.5)
    noise = np.random.default_rng(0).integers(0, 256, (side, side), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


async def main() -> None:
    argparse.ArgumentParser(description=__doc__.split("\n")[0]).parse_args()
    page = jpeg()
    print(f"A JPEG of {len(page) / 2**20:.2f} MiB, {REQUESTS} requests each\n")
    print("| clients | p50, ms | p99, ms | requests/s | errors |\n|---|---|---|---|---|")
    with Server(target="benchmarks.support.instant:service", reader_processes=1) as server:
        async with aiohttp.ClientSession(str(server.client.base_url)) as http:
            await load(http, page, 4, 50)
            for clients in CLIENTS:
                print(f"| {clients} | {await load(http, page, clients, REQUESTS)} |")


async def load(http: aiohttp.ClientSession, page: bytes, clients: int, requests: int) -> str:
    left, seconds, errors = requests, list[float](), 0

    async def client() -> None:
        nonlocal left, errors
        while left:
            left -= 1
            form = aiohttp.FormData({"file": io.BytesIO(page)})
            began = time.perf_counter()
            async with http.post("/ocr", data=form) as response:
                errors += response.status != 200
                await response.read()
            seconds.append(time.perf_counter() - began)

    began = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(clients)))
    rate = requests / (time.perf_counter() - began)
    cuts = statistics.quantiles(seconds, n=100)
    return f"{cuts[49] * 1e3:.1f} | {cuts[98] * 1e3:.1f} | {rate:.0f} | {errors}"


if __name__ == "__main__":
    asyncio.run(main())
